"""From a bearer ticket to a credential: the sealed request, and the answer if there is none (FORMAT.md, section 6)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from kveil.protocol.envelope.header import lp
from kveil.protocol.identity import cbor, crypto
from kveil.protocol.identity.errors import Malformed, Refused
from kveil.protocol.identity.identity import ID_LENGTH, PublicKeys, Signer, Unsealer, verify_identity
from kveil.protocol.identity.signing import (
    MAX_REALM,
    RecordType,
    identity_to_be_signed,
    ticket_to_be_signed,
)
from kveil.protocol.identity.ticket import TICKET_ID_LENGTH, Ticket

MAX_SEALED: Final = 16_384  # a request with post-quantum keys and signatures has about 8,000 bytes
NONCE_LENGTH: Final = 32

_ENROLMENT: Final = b"kveil/v1/enrolment\x00"


class Reason(IntEnum):
    """Why an enrolment was refused. Never changed, never reused."""

    NOT_KNOWN = 1
    EXPIRED = 2
    USED = 3
    NAME_TAKEN = 4
    REFUSED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """A sealed request, as it stands on the control topic."""

    ticket_id: bytes
    sealed: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        return self.ticket_id + self.sealed

    @classmethod
    def from_bytes(cls, data: bytes) -> Enrolment:
        """The strict inverse. Raises Malformed."""
        if not TICKET_ID_LENGTH < len(data) <= TICKET_ID_LENGTH + MAX_SEALED:
            raise Malformed("enrolment: length")
        return cls(ticket_id=data[:TICKET_ID_LENGTH], sealed=data[TICKET_ID_LENGTH:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a node asks for. `ticket_signature` is still to be checked against the ticket that the authority knows."""

    realm: str
    ticket_id: bytes
    keys: PublicKeys
    nonce: bytes
    name: str | None
    ticket_signature: bytes = field(repr=False)

    def check_ticket(self, ticket_public: bytes) -> None:
        """Raises Refused unless whoever made the request had the ticket."""
        message = ticket_to_be_signed(self.realm, self.ticket_id, self._payload())
        crypto.verify_ed25519(ticket_public, message, self.ticket_signature)

    def _payload(self) -> bytes:
        return _payload(self.ticket_id, self.keys.id, self.nonce, self.name)


def request_enrolment(ticket: Ticket, node: Signer, authority: PublicKeys, name: str | None = None) -> Enrolment:
    """The sealed request. Raises Refused if these aren't the keys of the ticket's authority."""
    if authority.id != ticket.authority:
        raise Refused("keys of another authority than the ticket's")
    key, nonce = ticket.key(), os.urandom(NONCE_LENGTH)
    payload = _payload(key.id, node.public.id, nonce, name)
    request = cbor.encode(
        {
            1: node.public.to_map(),
            2: nonce,
            3: key.sign(ticket_to_be_signed(ticket.realm, key.id, payload)),
            4: name,
            5: node.sign(identity_to_be_signed(RecordType.ENROLMENT, ticket.realm, node.public, payload)),
        }
    )
    sealed = crypto.hpke_seal(authority.suite, authority.kem, _info(ticket.realm, key.id), request)
    return Enrolment(ticket_id=key.id, sealed=sealed)


def open_enrolment(enrolment: Enrolment, authority: Unsealer, realm: str) -> Request:
    """The request, signed by the node. Raises Malformed or Refused. Whether the ticket signed is `check_ticket`'s."""
    data = authority.open(_info(realm, enrolment.ticket_id), enrolment.sealed)
    fields = cbor.Fields(cbor.decode(data, "enrolment"), "enrolment", range(1, 6))
    request = Request(
        realm=realm,
        ticket_id=enrolment.ticket_id,
        keys=PublicKeys.from_map(fields.value(1), fields.where(1)),
        nonce=fields.octets(2, NONCE_LENGTH),
        name=None if fields.value(4) is None else fields.text(4, most=64),
        ticket_signature=fields.octets(3, crypto.ED25519_SIGNATURE),
    )
    payload = _payload(request.ticket_id, request.keys.id, request.nonce, request.name)
    message = identity_to_be_signed(RecordType.ENROLMENT, realm, request.keys, payload)
    verify_identity(request.keys, message, fields.octets(5))
    return request


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Why there is no credential."""

    realm: str
    ticket_id: bytes
    node: bytes
    reason: Reason

    def to_map(self) -> dict[int, object]:
        """As it is signed."""
        return {1: self.realm, 2: self.ticket_id, 3: self.node, 4: int(self.reason)}

    @classmethod
    def from_map(cls, value: object) -> Answer:
        """The strict inverse. Raises Malformed."""
        fields = cbor.Fields(value, "answer", range(1, 5))
        return cls(
            realm=fields.text(1, most=MAX_REALM),
            ticket_id=fields.octets(2, TICKET_ID_LENGTH),
            node=fields.octets(3, ID_LENGTH),
            reason=Reason(fields.uint(4, least=1, most=len(Reason))),
        )


def _payload(ticket_id: bytes, node: bytes, nonce: bytes, name: str | None) -> bytes:
    return cbor.encode({1: ticket_id, 2: node, 3: nonce, 4: name})


def _info(realm: str, ticket_id: bytes) -> bytes:
    return _ENROLMENT + lp(realm.encode()) + ticket_id
