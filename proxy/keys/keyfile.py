"""What a key file holds, and how it grows: new keys, new versions. Only `destroy_key` takes anything out.

A key's versions are the oldest first. New epoch keys are wrapped under the primary, the others still open.
What was sealed under a lost version is lost. Where a key service keeps the keys, a file has none: it names the
realm, and holds the key-hiding key as the service wrapped it.
"""

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from kveil.protocol.envelope.header import KeyBlock
from kveil.proxy.keys.errors import KeyFileError

KEY_BYTES: Final = 32
HIDING_ID_BYTES: Final = 16
DEFAULT_KEY: Final = "default"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyVersion:
    """One version of a key-encryption key."""

    version: str
    created: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedKey:
    """A key-encryption key in all its versions, the oldest first."""

    name: str
    primary: str
    versions: tuple[KeyVersion, ...]

    def version(self, version: str) -> KeyVersion | None:
        """That version of the key, if the file has it."""
        return next((one for one in self.versions if one.version == version), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class HidingKey:
    """Hides record keys (envelope.md, "Keys are hidden by default"). Never rotated while the data lives."""

    id: bytes
    created: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedHidingKey:
    """The same as a key service wrapped it. The id is the secret's (FORMAT.md, section 10.2)."""

    id: bytes
    created: str
    block: KeyBlock = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFile:
    """All that a key file holds."""

    realm: str
    keys: tuple[NamedKey, ...]
    key_hiding_key: HidingKey | WrappedHidingKey
    # The version of each key that seals now: asked for every request.
    primaries: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "primaries", {one.name: one.primary for one in self.keys})

    def key(self, name: str) -> NamedKey | None:
        """The key of that name, if there is one."""
        return next((one for one in self.keys if one.name == name), None)


def checked_name(name: object, what: str) -> str:
    """`name` if it can be a realm's, a key's or a version's. The same rule as in the configuration."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        msg = f"the {what} must be 1 to 128 letters, digits, '.', '_' or '-', the first a letter or digit"
        raise KeyFileError(msg)
    return name


def new_key_file(*, realm: str | None = None, names: Iterable[str] = (DEFAULT_KEY,)) -> KeyFile:
    """A file with one fresh version of each key. Without a realm it gets a random name."""
    content = KeyFile(
        realm=new_realm() if realm is None else checked_name(realm, "realm"),
        keys=(),
        key_hiding_key=HidingKey(
            id=secrets.token_bytes(HIDING_ID_BYTES), created=today(), secret=secrets.token_bytes(KEY_BYTES)
        ),
    )
    for name in names:
        content = add_key(content, name)
    return content


def new_realm() -> str:
    """A name that no other deployment has."""
    return f"realm-{secrets.token_hex(8)}"


def add_key(content: KeyFile, name: str) -> KeyFile:
    """The content with one more key. Its name must be new."""
    if content.key(name):
        msg = f"there is a key {name} already: `kveil keys rotate {name}` gives it a new version"
        raise KeyFileError(msg)
    key = NamedKey(name=checked_name(name, "key name"), primary="1", versions=(_fresh("1"),))
    return replace(content, keys=(*content.keys, key))


def rotate_key(content: KeyFile, name: str) -> KeyFile:
    """The content with a new primary version of the key. The older versions stay, and still open."""
    _known(content, name)
    return replace(content, keys=tuple(_rotated(key) if key.name == name else key for key in content.keys))


def destroy_key(content: KeyFile, name: str) -> KeyFile:
    """The content without the key. What it wrapped opens no more."""
    _known(content, name)
    return replace(content, keys=tuple(key for key in content.keys if key.name != name))


def destroy_version(content: KeyFile, name: str, version: str) -> KeyFile:
    """The content without one retired version of the key. What it wrapped opens no more."""
    key = _known(content, name)
    if key.version(version) is None:
        known = ", ".join(one.version for one in key.versions)
        msg = f"key {name} has no version {version}; there are: {known}"
        raise KeyFileError(msg)
    if version == key.primary:
        msg = f"version {version} of key {name} is the one that seals: `kveil keys rotate {name}` makes another first"
        raise KeyFileError(msg)
    left = replace(key, versions=tuple(one for one in key.versions if one.version != version))
    return replace(content, keys=tuple(left if one.name == name else one for one in content.keys))


def _known(content: KeyFile, name: str) -> NamedKey:
    key = content.key(name)
    if key is None:
        known = ", ".join(key.name for key in content.keys) or "none"
        msg = f"there is no key {name}; there are: {known}. `kveil keys add {name}` makes it"
        raise KeyFileError(msg)
    return key


def _rotated(key: NamedKey) -> NamedKey:
    # Versions that a person wrote into the file need not be numbers.
    numbers = [int(one.version) for one in key.versions if one.version.isascii() and one.version.isdecimal()]
    fresh = _fresh(str(max(numbers, default=len(key.versions)) + 1))
    return replace(key, primary=fresh.version, versions=(*key.versions, fresh))


def _fresh(version: str) -> KeyVersion:
    return KeyVersion(version=version, created=today(), secret=secrets.token_bytes(KEY_BYTES))


def today() -> str:
    """Now, as the file writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
