"""Identities: public keys, the id that people compare, and the private half (FORMAT.md, section 2)."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from typing import Final, Protocol

from kveil.protocol.identity import cbor, crypto
from kveil.protocol.identity.crypto import KemSuite
from kveil.protocol.identity.errors import Malformed, Refused

ID_LENGTH: Final = 32

_ID: Final = b"kveil/v1/identity\x00"
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_MLDSA_FIELD: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKeys:
    """The public half of an identity. Raises Malformed if a length is wrong."""

    ed25519: bytes
    mldsa: bytes | None
    suite: KemSuite
    kem: bytes = field(repr=False)
    id: bytes = field(init=False)

    def __post_init__(self) -> None:
        cbor.as_bytes(self.ed25519, "Ed25519 key", crypto.ED25519_LENGTH)
        if self.mldsa is not None:
            cbor.as_bytes(self.mldsa, "ML-DSA-65 key", crypto.MLDSA_LENGTH)
        cbor.as_bytes(self.kem, "KEM key", crypto.KEM_PUBLIC_LENGTH[self.suite])
        object.__setattr__(self, "id", hashlib.sha256(_ID + cbor.encode(self.to_map())).digest())

    @property
    def signs_twice(self) -> bool:
        return self.mldsa is not None

    def to_map(self) -> dict[int, object]:
        """As records hold it."""
        made: dict[int, object] = {1: self.ed25519, 3: int(self.suite), 4: self.kem}
        return made if self.mldsa is None else made | {_MLDSA_FIELD: self.mldsa}

    @classmethod
    def from_map(cls, value: object, what: str = "public keys") -> PublicKeys:
        """The strict inverse. Raises Malformed."""
        fields = cbor.Fields(value, what, (1, 3, 4), optional=(_MLDSA_FIELD,))
        mldsa = None
        if isinstance(value, dict) and _MLDSA_FIELD in value:
            mldsa = fields.octets(_MLDSA_FIELD, crypto.MLDSA_LENGTH)
        suite = KemSuite(fields.uint(3, least=1, most=len(KemSuite)))
        return cls(ed25519=fields.octets(1), mldsa=mldsa, suite=suite, kem=fields.octets(4))


class Signer(Protocol):
    """Whoever holds the private keys: an identity from a file, or a token that never gives them."""

    @property
    def public(self) -> PublicKeys: ...

    def sign(self, message: bytes) -> bytes:
        """One signature, or two joined, as the public keys say."""
        ...


class Unsealer(Protocol):
    """Whoever can open what was sealed for these public keys."""

    @property
    def public(self) -> PublicKeys: ...

    def open(self, info: bytes, sealed: bytes) -> bytes:
        """Raises Refused."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Identity:
    """An identity with its private keys, which are seeds. Raises Malformed if a length is wrong."""

    ed25519_seed: bytes = field(repr=False)
    mldsa_seed: bytes | None = field(repr=False)
    suite: KemSuite
    kem_private: bytes = field(repr=False)
    public: PublicKeys = field(init=False)

    def __post_init__(self) -> None:
        cbor.as_bytes(self.ed25519_seed, "Ed25519 seed", crypto.SEED_LENGTH)
        if self.mldsa_seed is not None:
            cbor.as_bytes(self.mldsa_seed, "ML-DSA-65 seed", crypto.SEED_LENGTH)
        cbor.as_bytes(self.kem_private, "KEM private key", crypto.KEM_PRIVATE_LENGTH[self.suite])
        public = PublicKeys(
            ed25519=crypto.ed25519_public(self.ed25519_seed),
            mldsa=None if self.mldsa_seed is None else crypto.mldsa_public(self.mldsa_seed),
            suite=self.suite,
            kem=crypto.kem_public(self.suite, self.kem_private),
        )
        object.__setattr__(self, "public", public)

    @classmethod
    def generate(cls, *, suite: KemSuite = KemSuite.MLKEM768_X25519, sign_twice: bool = False) -> Identity:
        """New keys, from the system's random source."""
        return cls(
            ed25519_seed=os.urandom(crypto.SEED_LENGTH),
            mldsa_seed=os.urandom(crypto.SEED_LENGTH) if sign_twice else None,
            suite=suite,
            kem_private=os.urandom(crypto.KEM_PRIVATE_LENGTH[suite]),
        )

    @property
    def id(self) -> bytes:
        return self.public.id

    def sign(self, message: bytes) -> bytes:
        """64 bytes, or 64 and 3,309."""
        signature = crypto.ed25519_sign(self.ed25519_seed, message)
        return signature if self.mldsa_seed is None else signature + crypto.mldsa_sign(self.mldsa_seed, message)

    def open(self, info: bytes, sealed: bytes) -> bytes:
        """What was sealed for this identity. Raises Refused."""
        return crypto.hpke_open(self.suite, self.kem_private, info, sealed)

    def to_private_bytes(self) -> bytes:
        """All secrets, in the clear: for whoever protects the file."""
        made: dict[int, object] = {1: self.ed25519_seed, 3: int(self.suite), 4: self.kem_private}
        return cbor.encode(made if self.mldsa_seed is None else made | {_MLDSA_FIELD: self.mldsa_seed})

    @classmethod
    def from_private_bytes(cls, data: bytes) -> Identity:
        """The strict inverse. Raises Malformed; its text holds nothing of `data`."""
        value = cbor.decode(data, "private keys")
        fields = cbor.Fields(value, "private keys", (1, 3, 4), optional=(_MLDSA_FIELD,))
        twice = isinstance(value, dict) and _MLDSA_FIELD in value
        return cls(
            ed25519_seed=fields.octets(1, crypto.SEED_LENGTH),
            mldsa_seed=fields.octets(_MLDSA_FIELD, crypto.SEED_LENGTH) if twice else None,
            suite=KemSuite(fields.uint(3, least=1, most=len(KemSuite))),
            kem_private=fields.octets(4),
        )


def verify_identity(keys: PublicKeys, message: bytes, signature: bytes) -> None:
    """Raises Refused unless all of the signatures that the keys call for are there and verify."""
    expected = crypto.ED25519_SIGNATURE + (crypto.MLDSA_SIGNATURE if keys.signs_twice else 0)
    if len(signature) != expected:
        raise Refused("length of the signature")
    crypto.verify_ed25519(keys.ed25519, message, signature[: crypto.ED25519_SIGNATURE])
    if keys.mldsa is not None:
        crypto.verify_mldsa(keys.mldsa, message, signature[crypto.ED25519_SIGNATURE :])


def format_fingerprint(identity_id: bytes) -> str:
    """Hexadecimal in groups of four, as people compare it."""
    text = identity_id.hex()
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def parse_fingerprint(text: str) -> bytes:
    """The id. Takes any spaces, colons and hyphens between digits. Raises Malformed."""
    digits = re.sub(r"[\s:-]", "", text).lower()
    if not _FINGERPRINT.fullmatch(digits):
        raise Malformed("a fingerprint has 64 hexadecimal digits")
    return bytes.fromhex(digits)
