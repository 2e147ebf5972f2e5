"""Every use of a cipher in this project, and the only module that imports `cryptography`.

Nothing here draws randomness: salts and keys are drawn where they are used, from `os.urandom`. Nothing
returns None or False: what does not authenticate raises.
"""

from __future__ import annotations

import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.kafka.primitives import Buffer

KEY_LENGTH = 32
NONCE_LENGTH = 12
TAG_LENGTH = 16


def hkdf_expand(key: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, section 2.3, with SHA-512: `length` bytes (at most 16,320) from a uniformly random `key`."""
    return HKDFExpand(SHA512(), length, info).derive(key)


def encrypt(key: bytes, nonce: bytes, plaintext: Buffer) -> bytes:
    """AES-256-GCM with empty AAD: ciphertext and 16-byte tag. `plaintext` is read in place, the result
    allocated once.
    """
    return AESGCM(key).encrypt(nonce, plaintext, None)


def decrypt(key: bytes, nonce: bytes, ciphertext: Buffer, reason: str) -> bytes:
    """The plaintext of `encrypt`. Raises Unopenable(reason) if the tag does not match."""
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, None)
    except InvalidTag:
        raise Unopenable(reason) from None


def check_equal(found: Buffer, expected: bytes, reason: str) -> None:
    """Raises Unopenable(reason) unless both are equal, in a time that says nothing of where they differ."""
    if not hmac.compare_digest(found, expected):
        raise Unopenable(reason)
