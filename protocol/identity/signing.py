"""Signed records: COSE_Sign1 over deterministic CBOR (FORMAT.md, section 3)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from kveil.protocol.envelope.header import lp
from kveil.protocol.identity import cbor, crypto
from kveil.protocol.identity.errors import Malformed, Refused
from kveil.protocol.identity.identity import ID_LENGTH, PublicKeys, Signer, verify_identity

MAX_RECORD: Final = 1_000_000  # bytes: below the default limit of a broker
MAX_REALM: Final = 255
HASH_LENGTH: Final = 32
NO_HASH: Final = bytes(HASH_LENGTH)  # in place of the one before the first


class RecordType(IntEnum):
    """What a record is. Never changed, never reused."""

    IDENTITY = 1
    CREDENTIAL = 2
    CHECKPOINT = 3
    ENROLMENT = 4
    ANSWER = 5
    ANNOUNCEMENT = 6
    REGRANT = 7
    BEACON = 8
    HIDING = 9

    @property
    def signed_name(self) -> bytes:
        """What signatures name it by."""
        return self.name.lower().encode()


class Algorithm(IntEnum):
    """COSE's number for what the signature is made of."""

    ED25519 = -19
    ED25519_AND_MLDSA_65 = -65601


_SIGNATURE_LENGTH: Final = {
    Algorithm.ED25519: crypto.ED25519_SIGNATURE,
    Algorithm.ED25519_AND_MLDSA_65: crypto.ED25519_SIGNATURE + crypto.MLDSA_SIGNATURE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A signed record, taken apart. `fields` are its payload; nothing in it is verified until `verify` returned."""

    type: RecordType
    realm: str
    algorithm: Algorithm
    signer: bytes
    fields: Mapping[int, object] = field(repr=False)
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    cose: bytes = field(repr=False)
    hash: bytes

    def verify(self, keys: PublicKeys) -> None:
        """Raises Refused unless `keys` are the signer's, of the algorithm that they call for, and signed this."""
        if keys.id != self.signer:
            raise Refused("signed by another")
        if self.algorithm is not algorithm_of(keys):
            raise Refused("another algorithm than the signer's keys call for")
        protected = _protected(self.algorithm, self.signer)
        verify_identity(keys, to_be_signed(self.type, self.realm, protected, self.payload), self.signature)


def algorithm_of(keys: PublicKeys) -> Algorithm:
    """What these keys sign with."""
    return Algorithm.ED25519_AND_MLDSA_65 if keys.signs_twice else Algorithm.ED25519


def _protected(algorithm: Algorithm, signer: bytes) -> bytes:
    return cbor.encode({1: int(algorithm), 4: signer})


def to_be_signed(record_type: RecordType, realm: str, protected: bytes, payload: bytes) -> bytes:
    """COSE's `Sig_structure`."""
    aad = b"kveil/v1/" + record_type.signed_name + b"\x00" + lp(realm.encode())
    return cbor.encode(["Signature1", protected, aad, payload])


def ticket_to_be_signed(realm: str, ticket_id: bytes, payload: bytes) -> bytes:
    """The same for a ticket's key, which is no identity's: the ticket's id stands for the signer's."""
    return to_be_signed(RecordType.ENROLMENT, realm, _protected(Algorithm.ED25519, ticket_id), payload)


def identity_to_be_signed(record_type: RecordType, realm: str, keys: PublicKeys, payload: bytes) -> bytes:
    """What an identity signs."""
    return to_be_signed(record_type, realm, _protected(algorithm_of(keys), keys.id), payload)


def sign(record_type: RecordType, fields: Mapping[int, object], signer: Signer) -> Signed:
    """The record; its field 1 is the realm. Raises Malformed if it is longer than a record may be."""
    realm = cbor.as_text(fields.get(1), "realm", most=MAX_REALM)
    keys, payload = signer.public, cbor.encode(fields)
    protected = _protected(algorithm_of(keys), keys.id)
    signature = signer.sign(to_be_signed(record_type, realm, protected, payload))
    cose = cbor.encode([protected, {}, payload, signature])
    if len(cose) > MAX_RECORD:
        raise Malformed(f"a record of {len(cose)} bytes; {MAX_RECORD} are the limit")
    return Signed(
        type=record_type,
        realm=realm,
        algorithm=algorithm_of(keys),
        signer=keys.id,
        fields=fields,
        payload=payload,
        signature=signature,
        cose=cose,
        hash=hashlib.sha256(cose).digest(),
    )


def read_signed(record_type: RecordType, cose: bytes, realm: str) -> Signed:
    """What the bytes say, before any signature is looked at. Raises Malformed, or Refused for another realm."""
    what = record_type.name.lower()
    if len(cose) > MAX_RECORD:
        raise Malformed(f"{what}: longer than {MAX_RECORD} bytes")
    parts = cbor.as_list(cbor.decode(cose, what), what, length=4)
    protected = cbor.decode(cbor.as_bytes(parts[0], what), f"{what}, protected", negative=True)
    headers = cbor.Fields(protected, f"{what}, protected", (1, 4))
    algorithm = _algorithm(headers.value(1), what)
    if parts[1] != {}:
        raise Malformed(f"{what}: unprotected headers")
    payload = cbor.as_bytes(parts[2], what)
    fields = cbor.decode(payload, what)
    if not isinstance(fields, dict):
        raise Malformed(f"{what}: the payload is not a map")
    if fields.get(1) != realm:
        raise Refused("of another realm")
    return Signed(
        type=record_type,
        realm=realm,
        algorithm=algorithm,
        signer=headers.octets(4, ID_LENGTH),
        fields=fields,
        payload=payload,
        signature=cbor.as_bytes(parts[3], f"{what}, signature", _SIGNATURE_LENGTH[algorithm]),
        cose=cose,
        hash=hashlib.sha256(cose).digest(),
    )


def _algorithm(value: object, what: str) -> Algorithm:
    if type(value) is int:
        for algorithm in Algorithm:
            if algorithm == value:
                return algorithm
    raise Malformed(f"{what}: unknown algorithm")
