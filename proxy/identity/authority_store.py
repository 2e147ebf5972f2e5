"""The directory of an authority.

    authority.json    its private keys (identity_file.py)
    state.json        members, tickets, the newest checkpoint (authority_state.py)
    running.lock      held by `kveil authority run`
    publishing.lock   held by whoever writes to the control topic

What is published was on disk before. So a crash in between loses nothing: what the topic lacks is written again.
Between two who publish, the newest checkpoint must come last, since the log cleaner keeps the last: hence the lock.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kveil.protocol.identity.identity import Identity
from kveil.proxy.identity.authority_state import AuthorityState, decode_state, encode_state
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.identity_file import (
    Protection,
    create_identity,
    has_identity,
    read_fingerprint,
    read_identity,
)
from kveil.proxy.private_file import DIRECTORY_OWNER_ONLY, PrivateFile

AUTHORITY_KEYS: Final = "authority.json"
_STATE: Final = "state.json"
_MOST_BYTES: Final = 256 * 1024 * 1024  # 30,000 members with post-quantum keys, in base64


class AuthorityStore:
    """One such directory. All methods raise IdentityError."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file = PrivateFile(directory / _STATE, "authority's state", IdentityError)

    def create(self, keys: Identity, state: AuthorityState, protection: Protection) -> None:
        """A new authority. It never touches one that is there."""
        self.check_vacant()
        # The keys last: without them there is no authority, and this can be tried again.
        try:
            self.directory.mkdir(mode=DIRECTORY_OWNER_ONLY, parents=True, exist_ok=True)
        except OSError as error:
            raise IdentityError(f"{self.directory} can't be made: {error.strerror}") from None
        self._file.replace(encode_state(state))
        if not create_identity(self.directory, keys, protection, AUTHORITY_KEYS):
            raise self._taken()

    def check_vacant(self) -> None:
        """Raises IdentityError if there is an authority."""
        if has_identity(self.directory, AUTHORITY_KEYS):
            raise self._taken()

    def _taken(self) -> IdentityError:
        return IdentityError(
            f"there is an authority in {self.directory} already, and it stays as it is: --authority names another "
            "directory for another realm"
        )

    def fingerprint(self) -> bytes:
        """The authority's id."""
        return read_fingerprint(self.directory, AUTHORITY_KEYS)

    def keys(self, protection: Protection) -> Identity:
        """The authority's private keys."""
        return read_identity(self.directory, protection, AUTHORITY_KEYS)

    def load(self, keys: Identity) -> AuthorityState:
        """The state, which these keys have signed."""
        try:
            data, _ = self._file.read(_MOST_BYTES)
        except FileNotFoundError:
            raise IdentityError(
                f"there is no {self._file.path}: without it tickets that were used could be used again, and members "
                "are forgotten. Restore the authority's directory from a backup"
            ) from None
        try:
            return decode_state(data, keys.public)
        except IdentityError as error:
            raise IdentityError(f"{self._file.path} {error}") from None

    def change(self, keys: Identity, decide: Callable[[AuthorityState], AuthorityState]) -> AuthorityState:
        """Have a new state on disk, which `decide` makes of the old one, and return it.

        Nobody else changes it meanwhile. What `decide` raises passes, and nothing is changed.
        """
        with self._file.locked():
            before = self.load(keys)
            after = decide(before)
            if after != before:
                self._file.replace(encode_state(after))
        return after

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be the one `authority run` of this directory, for the length of a block."""
        descriptor = self._try_lock("running.lock")
        if descriptor is None:
            raise IdentityError(f"`kveil authority run` runs already with {self.directory}")
        try:
            yield
        finally:
            os.close(descriptor)

    def try_publishing(self) -> int | None:
        """Be the one who writes to the topic, until the descriptor is closed; None if another is."""
        return self._try_lock("publishing.lock")

    def _try_lock(self, name: str) -> int | None:
        return PrivateFile(self.directory / name, "authority's lock", IdentityError).take()
