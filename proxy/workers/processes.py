"""Worker processes: forked, told apart, and started again when they die."""

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NoReturn

from kveil.proxy.workers.channel import Channel

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""The parent's alone, also where a terminal or a service manager sends them to all processes of a group."""

FIRST_DELAY_SECONDS: Final = 0.1
LONGEST_DELAY_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 60.0
"""A worker that has lived so long died of something new."""

_CRASHED = 1

RunWorker = Callable[[int, socket.socket], int]
"""Is a worker, given its number and its end of the channel, and returns its exit code."""


@dataclass(slots=True, kw_only=True)
class WorkerProcess:
    """A worker as its parent sees it."""

    number: int
    """Stays when it is started again."""
    pid: int
    channel: Channel
    started_at: float = field(default_factory=time.monotonic)
    looks_since_report: int | None = None
    """How often the parent has looked since the last report. None before the first one."""

    def kill(self) -> None:
        """End it now."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def reap(self) -> int:
        """Return its exit code, of one whose channel is closed or that was killed; negative for a signal."""
        self.channel.close()
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


class Backoff:
    """How long to wait before a worker is started again."""

    def __init__(self) -> None:
        self._delay = FIRST_DELAY_SECONDS

    def after(self, lived_seconds: float) -> float:
        """Return the delay: twice the last one, unless the worker lived for long."""
        delay = FIRST_DELAY_SECONDS if lived_seconds >= STEADY_SECONDS else self._delay
        self._delay = min(2 * delay, LONGEST_DELAY_SECONDS)
        return delay


def fork_worker(number: int, run: RunWorker, leave_behind: Callable[[], None]) -> WorkerProcess:
    """Start a worker. `leave_behind` closes, in the child, what is the parent's."""
    near, far = socket.socketpair()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            near.close()
            _live(number, far, run, leave_behind)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    far.close()
    return WorkerProcess(number=number, pid=pid, channel=Channel(near))


def _live(number: int, sock: socket.socket, run: RunWorker, leave_behind: Callable[[], None]) -> NoReturn:
    """Be the worker. Never returns into what the parent was doing."""
    code = _CRASHED
    try:
        signal.set_wakeup_fd(-1)
        for signal_number in SIGNALS:
            signal.signal(signal_number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        leave_behind()
        code = run(number, sock)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
