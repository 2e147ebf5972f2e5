"""A service manager's end of sd_notify(3): a real datagram socket, and what was said to it.

with ServiceManagerSocket() as manager:
    Child(..., environment={**os.environ, **manager.environment})
    manager.wait_for("READY=1")
"""

import socket
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

SECONDS = 30.0


class ServiceManagerSocket:
    """Give `environment` to the program; `watchdog_seconds` is how long it may be silent."""

    def __init__(self, watchdog_seconds: float | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="notify-")
        path = Path(self._folder.name, "notify")
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self.environment = {"NOTIFY_SOCKET": str(path)}
        if watchdog_seconds is not None:
            self.environment["WATCHDOG_USEC"] = str(round(watchdog_seconds * 1_000_000))

    def next(self, timeout: float = SECONDS) -> str:
        """Wait for a message, and return it. Raises TimeoutError."""
        self._sock.settimeout(timeout)
        return self._sock.recv(4096).decode()

    def wait_for(self, text: str, timeout: float = SECONDS) -> str:
        """Wait for a message that begins so, and return it. Those before it are gone."""
        deadline = time.monotonic() + timeout
        while not (message := self.next(max(deadline - time.monotonic(), 0.001))).startswith(text):
            pass
        return message

    def rest(self) -> list[str]:
        """What was said and not asked for."""
        self._sock.setblocking(False)
        found = []
        while True:
            try:
                found.append(self._sock.recv(4096).decode())
            except BlockingIOError:
                return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sock.close()
        self._folder.cleanup()
