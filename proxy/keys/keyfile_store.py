"""The key file on disk: read only if nobody else can, written as a whole or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from kveil.proxy.keys.errors import KeyFileError
from kveil.proxy.keys.keyfile import KeyFile
from kveil.proxy.keys.keyfile_json import decode_key_file, encode_key_file
from kveil.proxy.private_file import PrivateFile, Stamp, stamp_of

__all__ = ["Stamp", "change_key_file", "create_key_file", "read_key_file", "stamp_of"]

# A thousand keys with ten versions each. Anything larger is the wrong file.
KEY_FILE_BYTES: Final = 2 * 1024 * 1024


def read_key_file(path: Path) -> tuple[KeyFile, Stamp]:
    """What the file holds. Raises KeyFileError, whose text names the file."""
    try:
        data, stamp = _file(path).read(KEY_FILE_BYTES)
    except FileNotFoundError:
        msg = f"there is no key file {path}: `kveil keys init --keys {path}` makes one, --keys names another"
        raise KeyFileError(msg) from None
    try:
        return decode_key_file(data), stamp
    except KeyFileError as error:
        msg = f"the key file {path} can't be used: {error}"
        raise KeyFileError(msg) from None


def create_key_file(path: Path, content: KeyFile) -> None:
    """Writes a new file. Never replaces one: it may hold the only key to somebody's data."""
    if not _file(path).create(encode_key_file(content)):
        msg = (
            f"{path} exists already and was left alone: it may hold the only key to your data. "
            "`kveil keys rotate` makes a new version, `kveil keys add` another key, --keys names another file"
        )
        raise KeyFileError(msg)


def change_key_file(path: Path, change: Callable[[KeyFile], KeyFile]) -> KeyFile:
    """Reads, changes and replaces the file. Two at the same time go one after the other."""
    file = _file(path)
    with file.locked():
        before, _ = read_key_file(path)
        after = change(before)
        file.replace(encode_key_file(after))
    return after


def _file(path: Path) -> PrivateFile:
    return PrivateFile(path, "key file", KeyFileError)
