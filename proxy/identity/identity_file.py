"""The file with an identity's private keys: a node's `identity.json`, an authority's `authority.json`.

    {"version": 1, "id": fingerprint, "keys": base64}
    {"version": 1, "id": fingerprint, "scrypt": {"n", "r", "p", "salt"}, "sealed": base64(nonce || ciphertext)}
    {"version": 1, "id": fingerprint, "pkcs11": {"key", "version", "wrapped"}, "sealed": base64(nonce || ciphertext)}

The fingerprint stands in the clear, so that it can be shown without passphrase and token. What was read must have it.
"""

import base64
import binascii
import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

from kveil.protocol.envelope import crypto
from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.identity.errors import IdentityError as ProtocolError
from kveil.protocol.identity.identity import ID_LENGTH, Identity
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.file_token import FileToken, WrappedFileKey
from kveil.proxy.private_file import PrivateFile
from kveil.proxy.secret import Secret

NODE_KEYS: Final = "identity.json"
_VERSION: Final = 1
_MOST_BYTES: Final = 64 * 1024
_SALT_LENGTH: Final = 16
_NONCE_LENGTH: Final = 12
_KEY_LENGTH: Final = 32
# A fifth of a second and 64 MiB for each guess at a passphrase.
_N, _R, _P = 2**16, 8, 1
# What a file may ask for: it may be somebody else's, and memory is taken before anything is checked.
_MOST_N: Final = 2**20
_MOST_R_OR_P: Final = 16

Protection = Secret | FileToken | None
"""A passphrase, a token, or nothing."""


def create_identity(directory: Path, identity: Identity, protection: Protection, name: str = NODE_KEYS) -> bool:
    """Write a new identity's keys. False if there are some already, which are left alone. Raises IdentityError."""
    if isinstance(protection, Secret) and not protection.reveal():
        raise IdentityError("the passphrase is empty: leave it out, or choose one")
    content: dict[str, object] = {"version": _VERSION, "id": identity.id.hex()}
    secrets = identity.to_private_bytes()
    if protection is None:
        content |= {"keys": _to_text(secrets)}
    elif isinstance(protection, Secret):
        content |= _sealed(secrets, protection)
    else:
        content |= _sealed_by_token(secrets, protection, identity.id)
    return _file(directory, name).create(json.dumps(content, indent=2).encode() + b"\n")


def read_identity(directory: Path, protection: Protection, name: str = NODE_KEYS) -> Identity:
    """An identity with its private keys. Raises IdentityError, whose text holds nothing of them."""
    path = directory / name
    content = _read(directory, name)
    _check_fits(protected_by(directory, name), protection, path)
    if protection is None:
        secrets = _binary(content, "keys", path)
    elif isinstance(protection, Secret):
        secrets = _opened(content, protection, path)
    else:
        secrets = _opened_by_token(content, protection, path)
    try:
        found = Identity.from_private_bytes(secrets)
    except ProtocolError as error:
        raise IdentityError(f"{path} is damaged: {error.reason}") from None
    if found.id != _id(content, path):
        raise IdentityError(f"{path} is damaged: its keys aren't those of its fingerprint")
    return found


def read_fingerprint(directory: Path, name: str = NODE_KEYS) -> bytes:
    """The id of the identity whose keys are there; it takes no passphrase. Raises IdentityError."""
    return _id(_read(directory, name), directory / name)


def has_identity(directory: Path, name: str = NODE_KEYS) -> bool:
    """Whether there are keys."""
    return (directory / name).exists()


def protected_by(directory: Path, name: str = NODE_KEYS) -> Literal["passphrase", "pkcs11"] | None:
    """What the keys take. Raises IdentityError."""
    content = _read(directory, name)
    if "keys" in content:
        return None
    return "pkcs11" if "pkcs11" in content else "passphrase"


def _file(directory: Path, name: str) -> PrivateFile:
    return PrivateFile(directory / name, "identity file", IdentityError)


def _read(directory: Path, name: str) -> dict[str, Any]:
    path = directory / name
    try:
        data, _ = _file(directory, name).read(_MOST_BYTES)
    except FileNotFoundError:
        way_out = "`kveil enroll` makes it" if name == NODE_KEYS else "`kveil authority init` makes it"
        raise IdentityError(f"there is no {path}: {way_out}") from None
    content: object = None
    with suppress(ValueError):
        content = json.loads(data)
    if not isinstance(content, dict):
        raise IdentityError(f"{path} is damaged: it is no JSON object")
    if content.get("version") != _VERSION:
        raise IdentityError(f"{path} has version {content.get('version')!r}, and this program knows {_VERSION} only")
    return content


def _sealed(secrets: bytes, passphrase: Secret) -> dict[str, object]:
    salt, nonce = os.urandom(_SALT_LENGTH), os.urandom(_NONCE_LENGTH)
    sealed = nonce + crypto.encrypt(_stretched(passphrase, salt, _N, _R, _P), nonce, secrets)
    return {"scrypt": {"n": _N, "r": _R, "p": _P, "salt": _to_text(salt)}, "sealed": _to_text(sealed)}


def _opened(content: dict[str, Any], passphrase: Secret, path: Path) -> bytes:
    cost = content.get("scrypt")
    if not isinstance(cost, dict):
        raise IdentityError(f"{path} is damaged: it has neither keys nor scrypt")
    n = _count(cost, "n", _MOST_N, path)
    r, p = (_count(cost, name, _MOST_R_OR_P, path) for name in ("r", "p"))
    sealed = _binary(content, "sealed", path)
    try:
        key = _stretched(passphrase, _binary(cost, "salt", path), n, r, p)
        return crypto.decrypt(key, sealed[:_NONCE_LENGTH], sealed[_NONCE_LENGTH:], "passphrase")
    except (Unopenable, ValueError):
        raise IdentityError(f"{path}: the passphrase is wrong, or the file is damaged") from None


def _stretched(passphrase: Secret, salt: bytes, n: int, r: int, p: int) -> bytes:
    # OpenSSL's own bound is 32 MiB.
    most = 256 * n * r * p
    return hashlib.scrypt(passphrase.reveal(), salt=salt, n=n, r=r, p=p, maxmem=most, dklen=32)


def _count(content: dict[str, Any], name: str, most: int, path: Path) -> int:
    value = content.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
        raise IdentityError(f"{path} is damaged: its scrypt asks for what it may not")
    return value


def _id(content: dict[str, Any], path: Path) -> bytes:
    found = b""
    with suppress(ValueError, TypeError):
        found = bytes.fromhex(content.get("id", ""))
    if len(found) != ID_LENGTH:
        raise IdentityError(f"{path} is damaged: it has no fingerprint")
    return found


def _check_fits(found: str | None, given: Protection, path: Path) -> None:
    """Raises IdentityError if what was given isn't what the file takes."""
    if found is None and isinstance(given, Secret):
        raise IdentityError(f"{path} isn't protected by a passphrase, and one was given: leave it out")
    if found == "passphrase" and not isinstance(given, Secret):
        raise IdentityError(f"{path} is protected by a passphrase: identity.passphrase or --passphrase says which")
    if found == "pkcs11" and not isinstance(given, FileToken):
        raise IdentityError(f"{path} is protected by a PKCS#11 token: identity.pkcs11 says which")
    # Keys that were once in the clear are not better kept by a setting.
    if found is None and isinstance(given, FileToken):
        raise IdentityError(
            f"{path} isn't protected by a PKCS#11 token: leave identity.pkcs11 out, or enrol anew in another directory"
        )


def _sealed_by_token(secrets: bytes, token: FileToken, identity_id: bytes) -> dict[str, object]:
    file_key, nonce = os.urandom(_KEY_LENGTH), os.urandom(_NONCE_LENGTH)
    key, version, wrapped = found = token.wrap(file_key)
    sealed = nonce + crypto.RecordCipher(file_key, nonce).encrypt(0, secrets, _aad(identity_id, found))
    return {
        "pkcs11": {"key": key, "version": version, "wrapped": _to_text(wrapped)},
        "sealed": _to_text(sealed),
    }


def _opened_by_token(content: dict[str, Any], token: FileToken, path: Path) -> bytes:
    told = content["pkcs11"]
    if not (isinstance(told, dict) and isinstance(told.get("key"), str) and isinstance(told.get("version"), str)):
        raise IdentityError(f"{path} is damaged: its pkcs11 names no key")
    found = WrappedFileKey(told["key"], told["version"], _binary(told, "wrapped", path))
    sealed = _binary(content, "sealed", path)
    try:
        file_key = token.unwrap(found)
    except IdentityError as error:
        raise IdentityError(f"{path} can't be opened: {error}") from None
    try:
        cipher = crypto.RecordCipher(file_key, sealed[:_NONCE_LENGTH])
        return cipher.decrypt(0, sealed[_NONCE_LENGTH:], _aad(_id(content, path), found), "token")
    except (Unopenable, ValueError):
        raise IdentityError(f"{path} is damaged: it isn't what was sealed with the token's key") from None


def _aad(identity_id: bytes, found: WrappedFileKey) -> bytes:
    # What the wrap can't be bound to, the ciphertext is.
    told = (found.key.encode(), found.version.encode(), found.wrapped)
    return b"kveil/v1/identity-file\0" + identity_id + b"".join(len(one).to_bytes(2, "big") + one for one in told)


def _to_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _binary(content: dict[str, Any], name: str, path: Path) -> bytes:
    try:
        return base64.b64decode(content[name], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise IdentityError(f"{path} is damaged: its {name} is no base64") from None
