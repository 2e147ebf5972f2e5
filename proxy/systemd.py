"""The service manager is told how the program is, as sd_notify(3) says. Silent where none listens.

A datagram with lines `KEY=value` to the Unix socket that NOTIFY_SOCKET names. Only the process that the manager has
started may speak: with several workers that is the parent.
"""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

_SEND_SECONDS: Final = 1.0
"""How long a state may wait for room in the manager's queue. A ping doesn't wait: the next one comes soon."""

_MICROSECONDS: Final = 1_000_000


class ServiceManager:
    """Whoever has started this process, if that is a service manager.

    `ping_seconds` is how often it wants to hear that the program's loop goes round, None for never: half of the time
    after which it ends a program that is silent.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ, pid: int | None = None) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.ping_seconds = _ping_seconds(environment, pid or os.getpid()) if self._address else None

    def ready(self) -> None:
        """Clients may connect."""
        self._tell("READY=1", wait=_SEND_SECONDS)

    def stopping(self) -> None:
        """Clients may not connect any more; those that are there are served to the end."""
        self._tell("STOPPING=1", wait=_SEND_SECONDS)

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """The block reads files again."""
        stamp = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={stamp}", wait=_SEND_SECONDS)
        try:
            yield
        finally:
            self.ready()

    def ping(self) -> None:
        """The loop goes round."""
        self._tell("WATCHDOG=1", wait=0.0)

    def _tell(self, state: str, *, wait: float) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(wait)
            sock.sendto(state.encode(), self._address)


def _address(name: str) -> str:
    """Return the socket's address, empty for none. One that begins with `@` has no file (unix(7), abstract)."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else ""


def _ping_seconds(environment: Mapping[str, str], pid: int) -> float | None:
    """Return how often to ping. WATCHDOG_PID says who is to, where the variables were handed on to another process."""
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    limit = environment.get("WATCHDOG_USEC", "")
    return int(limit) / _MICROSECONDS / 2 if limit.isdecimal() and int(limit) else None
