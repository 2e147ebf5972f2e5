"""The key file on disk: read only if nobody else can, written as a whole or not at all."""

import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kveil.proxy.keys.errors import KeyFileError
from kveil.proxy.keys.keyfile import KeyFile
from kveil.proxy.keys.keyfile_json import decode_key_file, encode_key_file

# A thousand keys with ten versions each. Anything larger is the wrong file.
KEY_FILE_BYTES: Final = 2 * 1024 * 1024
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


def read_key_file(path: Path) -> tuple[KeyFile, Stamp]:
    """What the file holds. Raises KeyFileError, whose text names the file."""
    try:
        # Opened once and then asked about itself, so that no other file can be slipped in between.
        # O_NONBLOCK: a FIFO must not hang the program.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            _check_private(path, status)
            data = file.read(KEY_FILE_BYTES + 1)
    except FileNotFoundError:
        msg = f"there is no key file {path}: `kveil keys init --keys {path}` makes one, --keys names another"
        raise KeyFileError(msg) from None
    except OSError as error:
        msg = f"the key file {path} can't be read: {error.strerror}"
        raise KeyFileError(msg) from None
    if len(data) > KEY_FILE_BYTES:
        msg = f"the key file {path} is larger than {KEY_FILE_BYTES} bytes: that is no key file"
        raise KeyFileError(msg)
    try:
        return decode_key_file(data), _stamp(status)
    except KeyFileError as error:
        msg = f"the key file {path} can't be used: {error}"
        raise KeyFileError(msg) from None


def create_key_file(path: Path, content: KeyFile) -> None:
    """Writes a new file. Never replaces one: it may hold the only key to somebody's data."""
    try:
        path.parent.mkdir(mode=DIRECTORY_OWNER_ONLY, parents=True, exist_ok=True)
        with _written_beside(path, content) as temporary:
            _name_once(temporary, path)
            _sync_directory(path.parent)
    except OSError as error:
        msg = f"the key file {path} can't be written: {error.strerror}"
        raise KeyFileError(msg) from None


def _name_once(temporary: Path, path: Path) -> None:
    try:
        # A link, unlike a rename, fails where a file is already.
        os.link(temporary, path)
    except FileExistsError:
        msg = (
            f"{path} exists already and was left alone: it may hold the only key to your data. "
            "`kveil keys rotate` makes a new version, `kveil keys add` another key, --keys names another file"
        )
        raise KeyFileError(msg) from None


def change_key_file(path: Path, change: Callable[[KeyFile], KeyFile]) -> KeyFile:
    """Reads, changes and replaces the file. Two at the same time go one after the other."""
    try:
        with _locked(path):
            before, _ = read_key_file(path)
            after = change(before)
            # Through a link, the file it leads to is replaced, not the link.
            target = path.resolve()
            with _written_beside(target, after) as temporary:
                temporary.replace(target)
                _sync_directory(target.parent)
            return after
    except OSError as error:
        msg = f"the key file {path} can't be written: {error.strerror}"
        raise KeyFileError(msg) from None


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(inode=status.st_ino, modified_ns=status.st_mtime_ns, size=status.st_size)


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        msg = f"the key file {path} is not a file"
        raise KeyFileError(msg)
    # Root can read and write everything anyway, so its ownership gives nobody more.
    if status.st_uid not in {os.geteuid(), 0}:
        msg = (
            f"the key file {path} belongs to another user (id {status.st_uid}), who could change it: "
            f"run kveil as that user, or chown {os.geteuid()} {path}"
        )
        raise KeyFileError(msg)
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.S_IMODE(status.st_mode)
        msg = f"the key file {path} is open to other users (mode {mode:04o}): chmod 600 {path}"
        raise KeyFileError(msg)


@contextmanager
def _written_beside(path: Path, content: KeyFile) -> Iterator[Path]:
    """A complete file in the same directory, on disk before anyone is led to it, gone afterwards."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(encode_key_file(content))
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the only change to the file. Whoever waited may have locked a replaced file, and tries again."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            yield  # Reading it gives the better sentence.
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if stamp_of(path) == _stamp(os.fstat(descriptor)):
                yield
                return
        finally:
            os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    """Without this the new name itself may be lost with the power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
