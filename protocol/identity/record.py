"""Records of the control topic: value, Kafka key, and what a record says (FORMAT.md, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from kveil.protocol.identity import cbor
from kveil.protocol.identity.announcement import Announcement
from kveil.protocol.identity.beacon import Beacon
from kveil.protocol.identity.checkpoint import Checkpoint
from kveil.protocol.identity.credential import Credential
from kveil.protocol.identity.enrolment import Answer, Enrolment
from kveil.protocol.identity.errors import Malformed, Refused
from kveil.protocol.identity.hiding import Handed
from kveil.protocol.identity.identity import PublicKeys, Signer
from kveil.protocol.identity.regrant import Regrant
from kveil.protocol.identity.signing import MAX_REALM, MAX_RECORD, RecordType, Signed, read_signed, sign
from kveil.protocol.identity.wrapping import recipients_hash

VERSION: Final = 1
_HEAD: Final = 2  # version and type


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRecord:
    """Somebody's public keys, signed with them: for whoever has the fingerprint only."""

    realm: str
    keys: PublicKeys

    def to_map(self) -> dict[int, object]:
        """As it is signed."""
        return {1: self.realm, 2: self.keys.to_map()}

    @classmethod
    def from_map(cls, value: object) -> IdentityRecord:
        """The strict inverse. Raises Malformed."""
        fields = cbor.Fields(value, "identity", (1, 2))
        keys = PublicKeys.from_map(fields.value(2), fields.where(2))
        return cls(realm=fields.text(1, most=MAX_REALM), keys=keys)


Body = IdentityRecord | Credential | Checkpoint | Answer | Announcement | Regrant | Beacon | Handed


class Record(NamedTuple):
    """A signed record with its fields. Decoding has looked at everything but the signature."""

    signed: Signed
    body: Body


_DECODERS: Final[dict[RecordType, Callable[[object], Body]]] = {
    RecordType.IDENTITY: IdentityRecord.from_map,
    RecordType.CREDENTIAL: Credential.from_map,
    RecordType.CHECKPOINT: Checkpoint.from_map,
    RecordType.ANSWER: Answer.from_map,
    RecordType.ANNOUNCEMENT: Announcement.from_map,
    RecordType.REGRANT: Regrant.from_map,
    RecordType.BEACON: Beacon.from_map,
    RecordType.HIDING: Handed.from_map,
}
_TYPES: Final = {record_type.value: record_type for record_type in RecordType}


def sign_body(body: IdentityRecord | Credential | Checkpoint | Answer | Beacon, signer: Signer) -> Signed:
    """The signed record. Others are made by `announce`, `regrant` and `hand_out`."""
    return sign(_type_of(body), body.to_map(), signer)


def _type_of(body: IdentityRecord | Credential | Checkpoint | Answer | Beacon) -> RecordType:
    match body:
        case IdentityRecord():
            return RecordType.IDENTITY
        case Credential():
            return RecordType.CREDENTIAL
        case Checkpoint():
            return RecordType.CHECKPOINT
        case Answer():
            return RecordType.ANSWER
        case Beacon():
            return RecordType.BEACON


def encode_record(record: Signed | Enrolment) -> tuple[bytes, bytes]:
    """Kafka key and value."""
    if isinstance(record, Enrolment):
        head = bytes((VERSION, RecordType.ENROLMENT))
        return head + record.ticket_id, head + record.to_bytes()
    head = bytes((VERSION, record.type))
    return head + _key_of(_DECODERS[record.type](record.fields)), head + record.cose


def _key_of(body: Body) -> bytes:
    match body:
        case IdentityRecord(keys=keys):
            return keys.id
        case Credential():
            return body.subject + body.serial.to_bytes(8, "big")
        case Checkpoint():
            return b""
        case Answer():
            return body.ticket_id
        case Announcement():
            return body.kid
        case Regrant():
            return body.kid + body.keeper + recipients_hash(body.recipients)[:16]
        case Beacon():
            return body.chain
        case Handed():
            return body.member


def decode_record(value: bytes, realm: str) -> Record | Enrolment:
    """What a record's value says, before its signature is looked at. Raises Malformed, or Refused."""
    if len(value) > MAX_RECORD + _HEAD:
        raise Malformed(f"longer than {MAX_RECORD} bytes")
    if len(value) < _HEAD or value[0] != VERSION:
        raise Malformed("another version")
    record_type = _TYPES.get(value[1])
    if record_type is None:
        raise Malformed("unknown type")
    if record_type is RecordType.ENROLMENT:
        return Enrolment.from_bytes(value[_HEAD:])
    signed = read_signed(record_type, value[_HEAD:], realm)
    body = _DECODERS[record_type](signed.fields)
    if _named_signer(body) not in {signed.signer, None}:
        raise Refused("signed by another than it names")
    return Record(signed, body)


def _named_signer(body: Body) -> bytes | None:
    """Who signed, by what the record itself says; None for the authority, which the view knows."""
    match body:
        case IdentityRecord(keys=keys):
            return keys.id
        case Announcement(epoch=epoch):
            return epoch.producer
        case Beacon(producer=producer):
            return producer
        case Regrant(keeper=keeper):
            return keeper
        case Credential() | Checkpoint() | Answer() | Handed():
            return None
