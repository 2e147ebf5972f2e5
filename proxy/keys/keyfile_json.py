"""The key file's text.

    {"format": "kveil-keys", "version": 1, "realm": "...",
     "keys": [{"name": "default", "primary": "2", "versions": [
         {"version": "1", "created": "2026-01-31T08:00:00Z", "secret": "base64 of 32 bytes"}, ...]}],
     "key_hiding_key": {"id": "16 bytes in hex", "created": "...", "secret": "base64 of 32 bytes"}}

Where a key service keeps the keys, `keys` is empty, and the key-hiding key has a member `wrapped` in the place of
`secret`: base64 of a key block (FORMAT.md, section 10.2).

Every fault is a sentence, and none repeats what stands in the file: it may be a secret in a wrong place.
"""

import base64
import json
from typing import Any, Final

from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.envelope.header import KeyBlock
from kveil.proxy.keys.errors import KeyFileError
from kveil.proxy.keys.keyfile import (
    HIDING_ID_BYTES,
    KEY_BYTES,
    HidingKey,
    KeyFile,
    KeyVersion,
    NamedKey,
    WrappedHidingKey,
    checked_name,
)

FORMAT: Final = "kveil-keys"
VERSION: Final = 1


def encode_key_file(content: KeyFile) -> bytes:
    """The file's text."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "realm": content.realm,
        "keys": [
            {"name": key.name, "primary": key.primary, "versions": [_encoded(one) for one in key.versions]}
            for key in content.keys
        ],
        "key_hiding_key": _encoded_hiding_key(content.key_hiding_key),
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def decode_key_file(data: bytes) -> KeyFile:
    """From the file's text. Raises KeyFileError with a sentence."""
    document = _json(data)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        msg = f'is no key file: "format" must be "{FORMAT}"'
        raise KeyFileError(msg)
    if type(document.get("version")) is not int or document["version"] != VERSION:
        msg = f"has a version that this program doesn't know: it reads version {VERSION}; use a newer kveil"
        raise KeyFileError(msg)
    _members(document, "the file", {"format", "version", "realm", "keys", "key_hiding_key"})
    keys = [_named_key(item) for item in _list(document["keys"], "keys", least=0)]
    _distinct([key.name for key in keys], "two keys named")
    return KeyFile(
        realm=checked_name(document["realm"], "realm"),
        keys=tuple(keys),
        key_hiding_key=_hiding_key(document["key_hiding_key"]),
    )


def _encoded(one: KeyVersion) -> dict[str, str]:
    return {"version": one.version, "created": one.created, "secret": _base64(one.secret)}


def _encoded_hiding_key(hiding: HidingKey | WrappedHidingKey) -> dict[str, str]:
    found = {"id": hiding.id.hex(), "created": hiding.created}
    if isinstance(hiding, WrappedHidingKey):
        return {**found, "wrapped": _base64(hiding.block.encode())}
    return {**found, "secret": _base64(hiding.secret)}


def _base64(secret: bytes) -> str:
    return base64.b64encode(secret).decode()


class _DoubledMember(ValueError):
    """An object names a member twice: which one counts would be chance."""


def _json(data: bytes) -> object:
    try:
        return json.loads(data, object_pairs_hook=_without_doubles)
    except _DoubledMember:
        msg = "names a member twice in one object: leave one of them"
        raise KeyFileError(msg) from None
    except (ValueError, RecursionError):
        msg = "is not JSON: it is half-written or no key file; restore it from your backup"
        raise KeyFileError(msg) from None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _DoubledMember
    return found


def _named_key(item: object) -> NamedKey:
    found = _members(item, "an entry of keys", {"name", "primary", "versions"})
    name = checked_name(found["name"], "key name")
    versions = tuple(_key_version(one, name) for one in _list(found["versions"], f"versions of key {name}"))
    _distinct([one.version for one in versions], f"key {name} has two versions")
    key = NamedKey(name=name, primary=checked_name(found["primary"], "primary version"), versions=versions)
    if key.version(key.primary) is None:
        msg = f"calls {key.primary} the primary version of key {name}, which has no such version"
        raise KeyFileError(msg)
    return key


def _key_version(item: object, key: str) -> KeyVersion:
    found = _members(item, f"a version of key {key}", {"version", "created", "secret"})
    return KeyVersion(
        version=checked_name(found["version"], f"version of key {key}"),
        created=_text(found["created"], f"created of key {key}"),
        secret=_secret(found["secret"], f"secret of key {key}"),
    )


def _hiding_key(item: object) -> HidingKey | WrappedHidingKey:
    is_wrapped = isinstance(item, dict) and "wrapped" in item
    found = _members(item, "key_hiding_key", {"id", "created", "wrapped" if is_wrapped else "secret"})
    created = _text(found["created"], "created of key_hiding_key")
    try:
        identifier = bytes.fromhex(_text(found["id"], "id of key_hiding_key"))
    except ValueError:
        identifier = b""
    if len(identifier) != HIDING_ID_BYTES:
        msg = f"the id of key_hiding_key must be {HIDING_ID_BYTES} bytes in hexadecimal digits"
        raise KeyFileError(msg)
    if is_wrapped:
        return WrappedHidingKey(id=identifier, created=created, block=_block(found["wrapped"]))
    return HidingKey(id=identifier, created=created, secret=_secret(found["secret"], "secret of key_hiding_key"))


def _block(item: object) -> KeyBlock:
    try:
        return KeyBlock.decode(base64.b64decode(_text(item, "wrapped of key_hiding_key"), validate=True))
    except (ValueError, Unopenable):
        msg = "wrapped of key_hiding_key must be a key block in base64; restore the file from your backup"
        raise KeyFileError(msg) from None


def _members(item: object, what: str, names: set[str]) -> dict[str, Any]:
    """`item` as an object with these members and no other: an unknown one may be a newer program's."""
    if not isinstance(item, dict):
        msg = f"{what} must be an object"
        raise KeyFileError(msg)
    if missing := sorted(names - item.keys()):
        msg = f"{what} lacks {', '.join(missing)}: it is half-written; restore it from your backup"
        raise KeyFileError(msg)
    if len(item) > len(names):
        msg = f"{what} has a member that this program doesn't know; it may be a newer program's"
        raise KeyFileError(msg)
    return item


def _list(item: object, what: str, *, least: int = 1) -> list[Any]:
    if not isinstance(item, list) or len(item) < least:
        msg = f"{what} must be a list{' that is not empty' if least else ''}"
        raise KeyFileError(msg)
    return item


def _text(item: object, what: str) -> str:
    if not isinstance(item, str):
        msg = f"{what} must be text"
        raise KeyFileError(msg)
    return item


def _secret(item: object, what: str) -> bytes:
    try:
        secret = base64.b64decode(_text(item, what), validate=True)
    except ValueError:
        secret = b""
    if len(secret) != KEY_BYTES:
        msg = f"{what} must be {KEY_BYTES} bytes in base64"
        raise KeyFileError(msg)
    return secret


def _distinct(names: list[str], what: str) -> None:
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        msg = f"{what} {double}: which one counts would be chance"
        raise KeyFileError(msg)
