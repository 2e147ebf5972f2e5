"""Provider 1's wrap of an epoch key under a key-encryption key from a file (FORMAT.md, section 7)."""

from __future__ import annotations

import os

from kveil.protocol.envelope import crypto
from kveil.protocol.envelope.errors import Reason, Unopenable
from kveil.protocol.envelope.header import SALT_LENGTH, lp
from kveil.protocol.envelope.key_schedule import EPOCH_KEY_LENGTH

KEK_LENGTH = 32
WRAPPED_LENGTH = SALT_LENGTH + EPOCH_KEY_LENGTH + crypto.TAG_LENGTH

_WRAP = b"kveil/v1/wrap\x00"


def wrap_epoch_key(kek: bytes, realm: str, topic: str, kid: bytes, secret: bytes) -> bytes:
    """72 bytes: a fresh 24-byte salt, the sealed secret, its tag. Raises Unopenable for a key of a wrong
    length.
    """
    if len(secret) != EPOCH_KEY_LENGTH:
        raise Unopenable(Reason.KEY_LENGTH)
    salt = os.urandom(SALT_LENGTH)
    key, nonce = _derive(kek, realm, topic, kid, salt)
    return salt + crypto.encrypt(key, nonce, secret)


def unwrap_epoch_key(kek: bytes, realm: str, topic: str, kid: bytes, wrapped: bytes) -> bytes:
    """The 32-byte secret. Raises Unopenable if the wrap was made for anything else, or altered.

    `EpochKey` checks afterwards that the kid is this secret's.
    """
    if len(wrapped) != WRAPPED_LENGTH:
        raise Unopenable(Reason.WRAP_LENGTH)
    key, nonce = _derive(kek, realm, topic, kid, wrapped[:SALT_LENGTH])
    return crypto.decrypt(key, nonce, wrapped[SALT_LENGTH:], Reason.WRAP_TAG)


def _derive(kek: bytes, realm: str, topic: str, kid: bytes, salt: bytes) -> tuple[bytes, bytes]:
    if len(kek) != KEK_LENGTH:
        raise Unopenable(Reason.KEY_LENGTH)
    info = b"".join((_WRAP, lp(realm.encode()), lp(topic.encode()), kid, salt))
    made = crypto.hkdf_expand(kek, info, crypto.KEY_LENGTH + crypto.NONCE_LENGTH)
    return made[: crypto.KEY_LENGTH], made[crypto.KEY_LENGTH :]
