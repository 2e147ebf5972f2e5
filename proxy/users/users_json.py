"""The users file's text.

    {"format": "kveil-users", "version": 1, "decoy": "base64 of 32 bytes",
     "users": [{"name": "alice", "changed": "2026-01-31T08:00:00Z",
                "sha-256": {"salt": "base64", "iterations": 16384, "stored_key": "base64", "server_key": "base64"},
                "sha-512": {...}}, ...]}

Every fault is a sentence, and none repeats what stands in the file.
"""

import base64
import json
from typing import Any, Final

from kveil.protocol.sasl.server.scram import ScramCredential
from kveil.proxy.users.errors import UsersFileError
from kveil.proxy.users.users import DECOY_BYTES, User, UsersFile, checked_user_name

FORMAT: Final = "kveil-users"
VERSION: Final = 1
LEAST_ITERATIONS: Final = 4096
"""What Kafka's clients take at least."""
MOST_ITERATIONS: Final = 1_000_000
"""A login by PLAIN costs the proxy so many hashes: half a second."""
_KEY_BYTES: Final = {"sha-256": 32, "sha-512": 64}


def encode_users_file(content: UsersFile) -> bytes:
    """The file's text."""
    users = [
        {
            "name": user.name,
            "changed": user.changed,
            "sha-256": _encoded(user.sha_256),
            "sha-512": _encoded(user.sha_512),
        }
        for user in content.users
    ]
    document = {"format": FORMAT, "version": VERSION, "decoy": _base64(content.decoy), "users": users}
    return json.dumps(document, indent=2).encode() + b"\n"


def decode_users_file(data: bytes) -> UsersFile:
    """From the file's text. Raises UsersFileError with a sentence."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        msg = "is not JSON: it is half-written or no users file"
        raise UsersFileError(msg) from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        msg = f'is no users file: "format" must be "{FORMAT}"'
        raise UsersFileError(msg)
    if type(document.get("version")) is not int or document["version"] != VERSION:
        msg = f"has a version that this program doesn't know: it reads version {VERSION}; use a newer kveil"
        raise UsersFileError(msg)
    found = _members(document, "the file", {"format", "version", "decoy", "users"})
    if not isinstance(found["users"], list):
        msg = "users must be a list"
        raise UsersFileError(msg)
    users = tuple(_user(item) for item in found["users"])
    names = [user.name for user in users]
    if len(set(names)) < len(names):
        msg = "names a user twice: which one counts would be chance"
        raise UsersFileError(msg)
    return UsersFile(users=users, decoy=_bytes(found["decoy"], "decoy", DECOY_BYTES))


def _encoded(credential: ScramCredential) -> dict[str, object]:
    return {
        "salt": _base64(credential.salt),
        "iterations": credential.iterations,
        "stored_key": _base64(credential.stored_key),
        "server_key": _base64(credential.server_key),
    }


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _user(item: object) -> User:
    found = _members(item, "an entry of users", {"name", "changed", "sha-256", "sha-512"})
    name = checked_user_name(found["name"])
    if not isinstance(found["changed"], str):
        msg = f"changed of user {name} must be text"
        raise UsersFileError(msg)
    made = {key: _credential(found[key], f"{key} of user {name}", size) for key, size in _KEY_BYTES.items()}
    return User(name=name, changed=found["changed"], sha_256=made["sha-256"], sha_512=made["sha-512"])


def _credential(item: object, what: str, size: int) -> ScramCredential:
    found = _members(item, what, {"salt", "iterations", "stored_key", "server_key"})
    iterations = found["iterations"]
    if type(iterations) is not int or not LEAST_ITERATIONS <= iterations <= MOST_ITERATIONS:
        msg = f"iterations in {what} must be {LEAST_ITERATIONS} to {MOST_ITERATIONS}"
        raise UsersFileError(msg)
    return ScramCredential(
        salt=_bytes(found["salt"], f"salt in {what}"),
        iterations=iterations,
        stored_key=_bytes(found["stored_key"], f"stored_key in {what}", size),
        server_key=_bytes(found["server_key"], f"server_key in {what}", size),
    )


def _members(item: object, what: str, names: set[str]) -> dict[str, Any]:
    """`item` as an object with these members and no other: an unknown one may be a newer program's."""
    if not isinstance(item, dict):
        msg = f"{what} must be an object"
        raise UsersFileError(msg)
    if item.keys() != names:
        msg = f"{what} must have {', '.join(sorted(names))} and nothing else"
        raise UsersFileError(msg)
    return item


def _bytes(item: object, what: str, size: int | None = None) -> bytes:
    try:
        value = base64.b64decode(item, validate=True) if isinstance(item, str) else b""
    except ValueError:
        value = b""
    if not value or (size is not None and len(value) != size):
        msg = f"{what} must be {size or 'some'} bytes in base64"
        raise UsersFileError(msg)
    return value
