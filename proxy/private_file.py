"""A file of secrets: read only if nobody else can, written as a whole or not at all.

file = PrivateFile(path, "key file", KeyFileError)
data, stamp = file.read(LIMIT)
with file.locked(): file.replace(new)
"""

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

OWNER_ONLY: Final = 0o600
DIRECTORY_OWNER_ONLY: Final = 0o700


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Tells one content of a path from another without reading it: a new file is a new inode."""

    inode: int
    modified_ns: int
    size: int


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of what is there now; None if nothing can be seen."""
    try:
        return _stamp(path.stat())
    except OSError:
        return None


class PrivateFile:
    """One such file. Its faults are raised as `error`, with a sentence that calls it `what`."""

    def __init__(self, path: Path, what: str, error: type[Exception]) -> None:
        self.path = path
        self.what = f"the {what} {path}"
        self._kind = what
        self._error = error

    def read(self, most_bytes: int) -> tuple[bytes, Stamp]:
        """What the file holds. FileNotFoundError passes: its owner knows the way out."""
        try:
            # Opened once and then asked about itself, so that no other file can be slipped in between.
            # O_NONBLOCK: a FIFO must not hang the program.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(file.fileno())
                self._check_private(status)
                data = file.read(most_bytes + 1)
        except FileNotFoundError:
            raise
        except OSError as error:
            msg = f"{self.what} can't be read: {error.strerror}"
            raise self._error(msg) from None
        if len(data) > most_bytes:
            msg = f"{self.what} is larger than {most_bytes} bytes: that is no {self._kind}"
            raise self._error(msg)
        return data, _stamp(status)

    def create(self, data: bytes) -> bool:
        """Writes a new file. False if there is one already, which is left alone."""
        with self._telling():
            self.path.parent.mkdir(mode=DIRECTORY_OWNER_ONLY, parents=True, exist_ok=True)
            with _written_beside(self.path, data) as temporary:
                try:
                    # A link, unlike a rename, fails where a file is already.
                    os.link(temporary, self.path)
                except FileExistsError:
                    return False
                _sync_directory(self.path.parent)
        return True

    def replace(self, data: bytes) -> None:
        """Puts new content in the file's place. Through a link, the file it leads to is replaced, not the link."""
        with self._telling():
            target = self.path.resolve()
            with _written_beside(target, data) as temporary:
                temporary.replace(target)
                _sync_directory(target.parent)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the only change to the file. Whoever waited may have locked a replaced file, and tries again."""
        while True:
            with self._telling():
                try:
                    descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                except FileNotFoundError:
                    descriptor = None  # Reading it gives the better sentence.
            if descriptor is None:
                yield
                return
            try:
                with self._telling():
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                    is_current = stamp_of(self.path) == _stamp(os.fstat(descriptor))
                if is_current:
                    yield
                    return
            finally:
                os.close(descriptor)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            msg = f"{self.what} can't be written: {error.strerror}"
            raise self._error(msg) from None

    def _check_private(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            msg = f"{self.what} is not a file"
            raise self._error(msg)
        # Root can read and write everything anyway, so its ownership gives nobody more.
        if status.st_uid not in {os.geteuid(), 0}:
            msg = (
                f"{self.what} belongs to another user (id {status.st_uid}), who could change it: "
                f"run kveil as that user, or chown {os.geteuid()} {self.path}"
            )
            raise self._error(msg)
        if status.st_mode & _open_bits(status.st_uid):
            mode = stat.S_IMODE(status.st_mode)
            msg = f"{self.what} is open to other users (mode {mode:04o}): chmod 600 {self.path}"
            raise self._error(msg)


def _open_bits(owner: int) -> int:
    """Return the permissions that a file of this owner mustn't give.

    Root's file is readable to a program that isn't root by its group alone, or by an access list, which shows as the
    group's bits. Kubernetes hands out secrets the first way, systemd its credentials the second.
    """
    everything = stat.S_IRWXG | stat.S_IRWXO
    return everything & ~stat.S_IRGRP if owner == 0 != os.geteuid() else everything


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(inode=status.st_ino, modified_ns=status.st_mtime_ns, size=status.st_size)


def lock_for_good(path: Path) -> int | None:
    """Hold a lock until the descriptor that is returned is closed, or this process ends. None: another process has it.

    :raises OSError: the file can't be written.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _written_beside(path: Path, data: bytes) -> Iterator[Path]:
    """A complete file in the same directory, on disk before anyone is led to it, gone afterwards."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    """Without this the new name itself may be lost with the power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
