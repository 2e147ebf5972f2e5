"""The users file on disk, and the users of a running proxy: the file is read again when it has changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from kveil.protocol.sasl.server.scram import ScramCredential, ScramHash
from kveil.proxy.config import Settings
from kveil.proxy.log import get_logger
from kveil.proxy.private_file import PrivateFile, Stamp, stamp_of
from kveil.proxy.users.errors import UsersFileError
from kveil.proxy.users.users import UsersFile
from kveil.proxy.users.users_json import decode_users_file, encode_users_file

_log = get_logger(__name__)

# Ten thousand users. Anything larger is the wrong file.
USERS_FILE_BYTES: Final = 8 * 1024 * 1024


def read_users_file(path: Path) -> tuple[UsersFile, Stamp]:
    """What the file holds. Raises UsersFileError, whose text names the file."""
    try:
        data, stamp = _file(path).read(USERS_FILE_BYTES)
    except FileNotFoundError:
        msg = f"there is no users file {path}: `kveil users add NAME --users {path}` makes one"
        raise UsersFileError(msg) from None
    try:
        return decode_users_file(data), stamp
    except UsersFileError as error:
        msg = f"the users file {path} can't be used: {error}"
        raise UsersFileError(msg) from None


def change_users_file(path: Path, change: Callable[[UsersFile], UsersFile], *, make: bool = False) -> UsersFile:
    """Reads, changes and replaces the file. Two at the same time go one after the other. With `make` it may be new."""
    file = _file(path)
    if make and not path.exists():
        content = change(UsersFile())
        if file.create(encode_users_file(content)):
            return content
    with file.locked():
        before, _ = read_users_file(path)
        after = change(before)
        file.replace(encode_users_file(after))
    return after


def check_users(settings: Settings) -> None:
    """Read every users file of the configuration. Raises UsersFileError for the first that can't be used."""
    for listener in settings.listeners:
        if listener.sasl is not None:
            read_users_file(listener.sasl.users)


class Users:
    """Holds what the users file held when it was last read well."""

    def __init__(self, path: Path) -> None:
        """Reads the file. Raises UsersFileError."""
        self._path = path
        self._content, stamp = read_users_file(path)
        # What stood there when it was last looked at, so that one bad file is told of once.
        self._seen: Stamp | None = stamp

    def credential(self, name: str, hash_name: ScramHash) -> ScramCredential:
        """The user's credential; for a user that there isn't, one that no password fits."""
        return self._content.credential(name, hash_name)

    def knows(self, name: str) -> bool:
        """Whether there is such a user."""
        return self._content.find(name) is not None

    def refresh(self) -> None:
        """Reads the file again if it has changed. One that can't be used leaves the old content in place."""
        stamp = stamp_of(self._path)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._content, self._seen = read_users_file(self._path)
        except UsersFileError as error:
            _log.error("users_reload_refused", path=str(self._path), reason=str(error))
            return
        _log.info("users_reloaded", path=str(self._path), users=len(self._content.users))


def _file(path: Path) -> PrivateFile:
    return PrivateFile(path, "users file", UsersFileError)
