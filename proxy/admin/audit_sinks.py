"""Places where audit events go, a line of JSON each.

A sink keeps what it can't hand on now, within a bound, and says why it can't. Standard output and files are written at
once, in the process that has decided: what the system has taken, a crash of the process doesn't lose.
"""

import os
import select
import stat
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kveil.proxy.config import AuditFile
from kveil.proxy.file_lock import lock_within, unlock
from kveil.proxy.log import get_logger, log_limited

_log = get_logger(__name__)

STDOUT: Final = 1
LOCK_SECONDS: Final = 0.05
"""How long a line waits for those of other workers. Each takes some microseconds."""
_OWNER: Final = 0o600
_GROUP: Final = 0o640


class Sink:
    """What every sink has: the events that wait, and why they do."""

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.waiting: deque[bytes] = deque()
        self.lost = 0
        """Events that found no room."""
        self.trouble: str | None = None
        """Why events can't be handed on now."""
        self._limit = limit

    @property
    def is_filling(self) -> bool:
        """Whether half of the room is used up."""
        return len(self.waiting) * 2 >= self._limit

    def put(self, line: bytes) -> None:
        """Take an event, or count it as lost."""
        if len(self.waiting) >= self._limit:
            self.lose(1)
        else:
            self.waiting.append(line)

    def lose(self, count: int) -> None:
        """Count events that reach nobody."""
        self.lost += count
        log_limited(_log.error, "audit_events_lost", key=self.name, sink=self.name, lost=self.lost, why=self.trouble)

    def failed(self, reason: str) -> None:
        """Note why events can't be handed on."""
        if self.trouble is None:
            _log.error("audit_sink_failed", sink=self.name, reason=reason, waiting=len(self.waiting))
        self.trouble = reason

    def went_well(self) -> None:
        """Note that they can."""
        if self.trouble is not None:
            _log.warning("audit_sink_recovered", sink=self.name, waiting=len(self.waiting), lost=self.lost)
        self.trouble = None


class DirectSink(Sink):
    """A sink that is written at once. `write` takes a line whole, or raises OSError and takes nothing of it."""

    def __init__(self, name: str, limit: int, write: Callable[[bytes], None]) -> None:
        super().__init__(name, limit)
        self._write = write

    def put(self, line: bytes) -> None:
        """Write an event, or keep it for `retry`."""
        super().put(line)
        if self.trouble is None:
            self.retry()

    def retry(self) -> None:
        """Write what waits."""
        while self.waiting:
            try:
                self._write(self.waiting[0])
            except OSError as error:
                self.failed(error.strerror or type(error).__name__)
                return
            self.waiting.popleft()
        self.went_well()


class QueuedSink(Sink):
    """A sink that hands events on in the background. `changed` is called whenever it can or can't, or has."""

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(name, limit)
        self.changed: Callable[[], None] = _nothing

    async def run(self) -> None:
        """Hand events on, until cancelled."""
        raise NotImplementedError


def _nothing() -> None:
    """Nobody wants to know."""


def write_stdout(line: bytes, descriptor: int = STDOUT) -> None:
    """Write a line to standard output, if there is room: whoever reads a pipe must not hold up the clients.

    :raises OSError: it can't be written.
    """
    if not select.select([], [descriptor], [], 0)[1]:
        raise BlockingIOError(0, "whoever reads standard output is behind")
    rest = memoryview(line)[os.write(descriptor, line) :]
    while rest:  # longer than a pipe takes at once: half a line would be worse than to wait
        select.select([], [descriptor], [])
        rest = rest[os.write(descriptor, rest) :]


class EventFile:
    """A file that all workers of a proxy, and its commands, append to, and that is rotated by size.

    Lines are written under a lock, by whoever finds that the path leads to the file that is open: so another worker's
    rotation is noticed, and logrotate's too.
    """

    def __init__(self, settings: AuditFile) -> None:
        self._settings = settings
        self._path = settings.path
        self._descriptor: int | None = None

    def write(self, line: bytes) -> None:
        """Append a line, in a new file if it would make this one too large.

        :raises OSError: it can't be written; nothing of it is there.
        """
        while True:
            descriptor = self._locked()
            try:
                status = os.fstat(descriptor)
                if not self._is_current(status):
                    self.close()
                elif status.st_size and status.st_size + len(line) > self._settings.max_bytes:
                    self._rotate()
                    self.close()
                else:
                    _append(descriptor, line, status.st_size)
                    return
            finally:
                if self._descriptor is not None:
                    unlock(descriptor)

    def open(self) -> None:
        """Open the file, made if there is none.

        :raises OSError: it can't be.
        """
        mode = _GROUP if self._settings.group_readable else _OWNER
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, mode)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(0, "it is not a file")
            if status.st_mode & ~mode & 0o777:
                raise OSError(0, f"it is open to others: chmod {mode:04o} {self._path}")
            if os.geteuid() == 0 and not status.st_size:
                folder = self._path.parent.stat()  # a command that root runs must not lock the proxy out
                os.fchown(descriptor, folder.st_uid, folder.st_gid)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def close(self) -> None:
        """Close it. The next line opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _locked(self) -> int:
        if self._descriptor is None:
            self.open()
        descriptor = self._descriptor
        if descriptor is None:
            raise AssertionError
        lock_within(descriptor, LOCK_SECONDS)
        return descriptor

    def _is_current(self, status: os.stat_result) -> bool:
        try:
            there = self._path.stat(follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino)

    def _rotate(self) -> None:
        """Make room at the path: `audit.log` becomes `audit.log.1`, that `audit.log.2`; the oldest goes."""
        names = [self._path, *(Path(f"{self._path}.{number}") for number in range(1, self._settings.keep + 1))]
        if len(names) == 1:
            self._path.unlink()
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            if newer.exists():
                newer.replace(older)


def _append(descriptor: int, line: bytes, size: int) -> None:
    try:
        written = os.write(descriptor, line)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
    if written < len(line):
        os.ftruncate(descriptor, size)
        raise OSError(0, "there is no space left for a whole line")
