"""Bearer tickets: one line of text that makes somebody a member, once (FORMAT.md, section 6)."""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field
from typing import Final

from kveil.protocol.envelope.crypto import hkdf_expand
from kveil.protocol.envelope.header import lp
from kveil.protocol.identity import cbor, crypto
from kveil.protocol.identity.errors import Malformed
from kveil.protocol.identity.identity import ID_LENGTH
from kveil.protocol.identity.marks import Kept
from kveil.protocol.identity.signing import HASH_LENGTH, MAX_REALM

PREFIX: Final = "kveil1."
MAX_TEXT: Final = 1_024
SECRET_LENGTH: Final = 32
TICKET_ID_LENGTH: Final = 16

_TICKET: Final = b"kveil/v1/ticket\x00"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TicketKey:
    """What both sides derive from a ticket's secret. The authority keeps `id` and `public` only."""

    id: bytes
    public: bytes
    seed: bytes = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        return crypto.ed25519_sign(self.seed, message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What stands in a ticket. Its text is as secret as what it grants."""

    realm: str
    authority: bytes
    secret: bytes = field(repr=False)
    checkpoint: Kept
    expires: int

    @classmethod
    def make(cls, *, realm: str, authority: bytes, checkpoint: Kept, expires: int) -> Ticket:
        """A new one, with a secret from the system's random source."""
        secret = os.urandom(SECRET_LENGTH)
        return cls(realm=realm, authority=authority, secret=secret, checkpoint=checkpoint, expires=expires)

    def key(self) -> TicketKey:
        """Raises Malformed if the secret is not 32 bytes long."""
        cbor.as_bytes(self.secret, "secret of a ticket", SECRET_LENGTH)  # HMAC pads a shorter one with zeros
        made = hkdf_expand(
            self.secret, _TICKET + lp(self.realm.encode()) + self.authority, crypto.SEED_LENGTH + TICKET_ID_LENGTH
        )
        seed = made[: crypto.SEED_LENGTH]
        return TicketKey(id=made[crypto.SEED_LENGTH :], public=crypto.ed25519_public(seed), seed=seed)

    def to_text(self) -> str:
        """The line that travels."""
        made = cbor.encode(
            {
                1: self.realm,
                2: self.authority,
                3: self.secret,
                4: self.checkpoint.number,
                5: self.checkpoint.hash,
                6: self.expires,
            }
        )
        return PREFIX + base64.urlsafe_b64encode(made).rstrip(b"=").decode()

    @classmethod
    def from_text(cls, text: str) -> Ticket:
        """The strict inverse, but for spaces around it. Raises Malformed; its text holds nothing of the ticket."""
        body = text.strip().removeprefix(PREFIX)
        if not text.strip().startswith(PREFIX) or len(body) > MAX_TEXT:
            raise Malformed(f"a ticket begins with {PREFIX} and has at most {MAX_TEXT} characters")
        try:
            data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise Malformed("ticket: not base64url") from None
        fields = cbor.Fields(cbor.decode(data, "ticket"), "ticket", range(1, 7))
        made = cls(
            realm=fields.text(1, most=MAX_REALM),
            authority=fields.octets(2, ID_LENGTH),
            secret=fields.octets(3, SECRET_LENGTH),
            checkpoint=Kept(fields.uint(4, least=1), fields.octets(5, HASH_LENGTH)),
            expires=fields.uint(6),
        )
        if made.to_text() != PREFIX + body:  # bits behind the last byte
            raise Malformed("ticket: not base64url")
        return made
