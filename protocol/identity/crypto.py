"""Signatures and HPKE: the only module beside the envelope's that imports `cryptography`.

Private keys are seeds here, as files hold them. Nothing returns None or False: what doesn't verify or open raises.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from kveil.protocol.identity.errors import Malformed, Refused

SEED_LENGTH: Final = 32  # of Ed25519, ML-DSA-65 and X25519
ED25519_LENGTH: Final = 32
ED25519_SIGNATURE: Final = 64
MLDSA_LENGTH: Final = 1_952
MLDSA_SIGNATURE: Final = 3_309
_MLKEM_SEED: Final = 64
_MLKEM_LENGTH: Final = 1_184
_TAG_LENGTH: Final = 16

_VERIFIERS: Final = 1_024  # public keys that are held ready: an ML-DSA key takes as long to read as to verify with


class KemSuite(IntEnum):
    """How keys are wrapped. Never changed, never reused."""

    X25519 = 1
    MLKEM768_X25519 = 2


_SUITES: Final = {
    KemSuite.X25519: hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM),
    KemSuite.MLKEM768_X25519: hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM),
}
KEM_PUBLIC_LENGTH: Final = {KemSuite.X25519: 32, KemSuite.MLKEM768_X25519: _MLKEM_LENGTH + 32}
KEM_PRIVATE_LENGTH: Final = {KemSuite.X25519: SEED_LENGTH, KemSuite.MLKEM768_X25519: _MLKEM_SEED + SEED_LENGTH}
ENC_LENGTH: Final = {KemSuite.X25519: 32, KemSuite.MLKEM768_X25519: 1_120}


def sealed_length(suite: KemSuite, plaintext_length: int) -> int:
    """Bytes of `enc || ciphertext`."""
    return ENC_LENGTH[suite] + plaintext_length + _TAG_LENGTH


def ed25519_public(seed: bytes) -> bytes:
    """32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def ed25519_sign(seed: bytes, message: bytes) -> bytes:
    """64 bytes, the same for the same message (RFC 8032)."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def mldsa_public(seed: bytes) -> bytes:
    """1,952 bytes."""
    return MLDSA65PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()


def mldsa_sign(seed: bytes, message: bytes) -> bytes:
    """3,309 bytes, others each time (FIPS 204, hedged)."""
    return MLDSA65PrivateKey.from_seed_bytes(seed).sign(message)


def verify_ed25519(public: bytes, message: bytes, signature: bytes) -> None:
    """Raises Refused."""
    try:
        _ed25519(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Refused("signature") from None


def verify_mldsa(public: bytes, message: bytes, signature: bytes) -> None:
    """Raises Refused."""
    try:
        _mldsa(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Refused("second signature") from None


@lru_cache(_VERIFIERS)
def _ed25519(public: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public)


@lru_cache(_VERIFIERS)
def _mldsa(public: bytes) -> MLDSA65PublicKey:
    return MLDSA65PublicKey.from_public_bytes(public)


def kem_public(suite: KemSuite, private: bytes) -> bytes:
    """The public half, as identities have it: ML-KEM's before X25519's."""
    if suite is KemSuite.X25519:
        return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    lattice = MLKEM768PrivateKey.from_seed_bytes(private[:_MLKEM_SEED]).public_key().public_bytes_raw()
    return lattice + X25519PrivateKey.from_private_bytes(private[_MLKEM_SEED:]).public_key().public_bytes_raw()


def hpke_seal(suite: KemSuite, public: bytes, info: bytes, plaintext: bytes) -> bytes:
    """HPKE in base mode, single-shot, empty AAD: `enc || ciphertext`. Raises Malformed for a key that is none."""
    try:
        return _SUITES[suite].encrypt(plaintext, _kem_public_key(suite, public), info)
    except ValueError:
        raise Malformed("KEM public key") from None


def hpke_open(suite: KemSuite, private: bytes, info: bytes, sealed: bytes) -> bytes:
    """The plaintext. Raises Refused if it was sealed for another key or `info`, or altered."""
    try:
        return _SUITES[suite].decrypt(sealed, _kem_private_key(suite, private), info)
    except (InvalidTag, ValueError):
        raise Refused("not sealed for this key, or altered") from None


def _kem_public_key(suite: KemSuite, public: bytes) -> X25519PublicKey | hpke.MLKEM768X25519PublicKey:
    if suite is KemSuite.X25519:
        return X25519PublicKey.from_public_bytes(public)
    return hpke.MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_LENGTH]),
        X25519PublicKey.from_public_bytes(public[_MLKEM_LENGTH:]),
    )


def _kem_private_key(suite: KemSuite, private: bytes) -> X25519PrivateKey | hpke.MLKEM768X25519PrivateKey:
    if suite is KemSuite.X25519:
        return X25519PrivateKey.from_private_bytes(private)
    return hpke.MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(private[:_MLKEM_SEED]),
        X25519PrivateKey.from_private_bytes(private[_MLKEM_SEED:]),
    )
