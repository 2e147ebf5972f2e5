"""What a users file holds, and how it grows and shrinks. Never a password: only what proves one.

Each user has a credential for both hashes, so that every mechanism works for every user. PLAIN is proved against the
SHA-256 one.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from kveil.protocol.sasl.server.scram import ScramCredential, ScramHash, make_credential
from kveil.proxy.secret import Secret
from kveil.proxy.users.errors import UsersFileError

ITERATIONS: Final = 16_384
"""As much as Kafka's own tools allow. A PLAIN login costs the proxy so many hashes: some 10 ms."""
SALT_BYTES: Final = 16
DECOY_BYTES: Final = 32
MAX_PASSWORD_BYTES: Final = 1024
# No '=' and no ',', so that no user can have the name of a certificate's subject.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One user."""

    name: str
    changed: str
    """When the password was set."""
    sha_256: ScramCredential
    sha_512: ScramCredential

    def credential(self, hash_name: ScramHash) -> ScramCredential:
        """The credential of a mechanism's hash."""
        return self.sha_256 if hash_name is ScramHash.SHA_256 else self.sha_512


@dataclass(frozen=True, slots=True, kw_only=True)
class UsersFile:
    """All that a users file holds."""

    users: tuple[User, ...] = ()
    decoy: bytes = field(default_factory=lambda: secrets.token_bytes(DECOY_BYTES), repr=False)
    """Makes the salts of users that there aren't: the same at every try, so that they look like any other's."""

    def find(self, name: str) -> User | None:
        """The user of that name, if there is one."""
        return next((user for user in self.users if user.name == name), None)

    def credential(self, name: str, hash_name: ScramHash) -> ScramCredential:
        """The user's credential; for a user that there isn't, one that no password fits."""
        user = self.find(name)
        if user is not None:
            return user.credential(hash_name)
        made = hmac.digest(self.decoy, f"{hash_name} {name}".encode(), "sha512")
        size = hashlib.new(hash_name).digest_size
        return ScramCredential(
            salt=made[:SALT_BYTES],
            iterations=ITERATIONS,
            stored_key=secrets.token_bytes(size),
            server_key=secrets.token_bytes(size),
        )


def checked_user_name(name: object) -> str:
    """`name` if a user can have it."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        msg = "a user's name must be 1 to 128 letters, digits, '.', '_', '@' or '-', the first a letter or digit"
        raise UsersFileError(msg)
    return name


def add_user(content: UsersFile, name: str, password: Secret) -> UsersFile:
    """The content with one more user. The name must be new."""
    if content.find(checked_user_name(name)):
        msg = f"there is a user {name} already: `kveil users passwd {name}` gives them another password"
        raise UsersFileError(msg)
    return replace(content, users=(*content.users, _made(name, password)))


def change_password(content: UsersFile, name: str, password: Secret) -> UsersFile:
    """The content with another password for a user."""
    _existing(content, name)
    made = _made(name, password)
    return replace(content, users=tuple(made if user.name == name else user for user in content.users))


def remove_user(content: UsersFile, name: str) -> UsersFile:
    """The content without a user."""
    _existing(content, name)
    return replace(content, users=tuple(user for user in content.users if user.name != name))


def _existing(content: UsersFile, name: str) -> None:
    if content.find(name) is None:
        known = ", ".join(user.name for user in content.users) or "none"
        msg = f"there is no user {name}; there are: {known}"
        raise UsersFileError(msg)


def _made(name: str, password: Secret) -> User:
    value = password.reveal()
    if not 0 < len(value) <= MAX_PASSWORD_BYTES or b"\0" in value:
        msg = f"a password must have 1 to {MAX_PASSWORD_BYTES} bytes, none of them zero"
        raise UsersFileError(msg)
    made = {
        hash_name: make_credential(hash_name, value, salt=secrets.token_bytes(SALT_BYTES), iterations=ITERATIONS)
        for hash_name in ScramHash
    }
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return User(name=name, changed=now, sha_256=made[ScramHash.SHA_256], sha_512=made[ScramHash.SHA_512])
