"""Every use of a cipher in this project, and the only module that imports `cryptography`.

Nothing here draws randomness: salts and keys are drawn where they are used, from `os.urandom`. Nothing
returns None or False: what does not authenticate raises.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.hmac import HMAC

from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.kafka.primitives import Buffer

KEY_LENGTH = 32
NONCE_LENGTH = 12
TAG_LENGTH = 16
SIGNATURE_LENGTH = 64


class HkdfExpand:
    """RFC 5869, section 2.3, with SHA-512, under one key that is used often: its HMAC is set up once.

    A batch costs 2.5 us so, and 32 us where its code has left the processor's caches; the library's own HKDFExpand
    takes 4.1 and 64 us, which shows in the latency of single records.
    """

    _MOST = 255 * SHA512.digest_size

    def __init__(self, key: bytes) -> None:
        self._keyed = HMAC(key, SHA512())

    def __call__(self, info: bytes, length: int) -> bytes:
        """`length` bytes, at most 16,320, from the uniformly random key."""
        if not 0 < length <= self._MOST:
            raise ValueError(f"HKDF gives 1 to {self._MOST} bytes, not {length}")
        made = block = b""
        for number in range(1, -(-length // SHA512.digest_size) + 1):
            keyed = self._keyed.copy()
            keyed.update(b"".join((block, info, bytes((number,)))))
            block = keyed.finalize()
            made += block
        return made[:length]


class HkdfBlock:
    """The same for at most 64 bytes, where `info` begins alike each time: a record with a hidden key waits for it."""

    def __init__(self, key: bytes, info_start: bytes, length: int) -> None:
        self._length = length
        self._keyed = HMAC(key, SHA512())
        self._keyed.update(info_start)

    def expand(self, info_end: bytes) -> bytes:
        """`length` bytes, at most 64, for `info_start` and `info_end` together."""
        keyed = self._keyed.copy()
        keyed.update(info_end + b"\x01")
        return keyed.finalize()[: self._length]


def hkdf_expand(key: bytes, info: bytes, length: int) -> bytes:
    """The same under a key that is used once."""
    return HkdfExpand(key)(info, length)


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


class RecordCipher:
    """AES-256-GCM under one key for many records, each with an index of its own: nonce = base XOR index.

    Setting a key up costs more than sealing a small record.
    """

    def __init__(self, key: bytes, base_nonce: bytes) -> None:
        self.aead = AESGCM(key)
        self.base_nonce = base_nonce
        self._base = int.from_bytes(base_nonce, "big")

    def encrypt(self, index: int, plaintext: Buffer, aad: bytes) -> bytes:
        """Ciphertext and 16-byte tag. No index may come twice."""
        return self.aead.encrypt((self._base ^ index).to_bytes(NONCE_LENGTH, "big"), plaintext, aad)

    def decrypt(self, index: int, ciphertext: Buffer, aad: bytes, reason: str) -> bytes:
        """The plaintext of `encrypt`. Raises Unopenable(reason) if the tag does not match."""
        try:
            return self.aead.decrypt((self._base ^ index).to_bytes(NONCE_LENGTH, "big"), ciphertext, aad)
        except InvalidTag:
            raise Unopenable(reason) from None


class Digest:
    """SHA-256 of what comes in pieces. A copy may go on with other pieces."""

    def __init__(self, *pieces: Buffer) -> None:
        self._hash = hashlib.sha256()
        for piece in pieces:
            self._hash.update(piece)

    def with_more(self, *pieces: Buffer) -> bytes:
        """The 32 bytes for all pieces and these behind them."""
        hashed = self._hash.copy()
        for piece in pieces:
            hashed.update(piece)
        return hashed.digest()


class Fingerprint:
    """By what a process knows bytes again that it doesn't keep: their GMAC under a key of its own.

    Of 16 KiB it takes a fifth of the time of SHA-256. Nobody can make two pieces alike who sees no fingerprint; so
    they stay in the process, since they share one nonce.
    """

    _NONCE = bytes(NONCE_LENGTH)

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def __call__(self, known: Buffer) -> bytes:
        """16 bytes."""
        return self._aead.encrypt(self._NONCE, b"", known)


class VerifyKey:
    """The public half of a signing key, 32 bytes of Ed25519 (RFC 8032). Raises ValueError if it is none."""

    def __init__(self, public: bytes) -> None:
        self.public = public
        self._key = Ed25519PublicKey.from_public_bytes(public)

    def check(self, signature: Buffer, message: bytes, reason: str) -> None:
        """Raises Unopenable(reason) unless `signature` is this key's of `message`."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            raise Unopenable(reason) from None


class SigningKey:
    """Ed25519 from a random seed of 32 bytes, which isn't kept. Raises ValueError for another length."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verify_key = VerifyKey(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """64 bytes, the same each time."""
        return self._key.sign(message)


def check_equal(found: Buffer, expected: bytes, reason: str) -> None:
    """Raises Unopenable(reason) unless both are equal, in a time that says nothing of where they differ."""
    if not hmac.compare_digest(found, expected):
        raise Unopenable(reason)
