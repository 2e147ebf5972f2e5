"""Regrants: an epoch key that a keeper hands on (FORMAT.md, section 8)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from kveil.protocol.envelope.header import KID_LENGTH
from kveil.protocol.identity import cbor
from kveil.protocol.identity.announcement import Announcement
from kveil.protocol.identity.credential import MAX_TOPIC
from kveil.protocol.identity.errors import Refused
from kveil.protocol.identity.identity import ID_LENGTH, PublicKeys, Signer, Unsealer
from kveil.protocol.identity.signing import HASH_LENGTH, MAX_REALM, RecordType, Signed, sign
from kveil.protocol.identity.wrapping import REGRANT, Wrap, read_wraps, unwrap, wrap_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Regrant:
    """A regrant's fields."""

    realm: str
    keeper: bytes
    credential: bytes
    announcement: bytes
    kid: bytes
    topic: str
    wraps: tuple[Wrap, ...] = field(repr=False)
    bound_to: bytes = field(repr=False)

    @property
    def recipients(self) -> tuple[bytes, ...]:
        return tuple(wrap.recipient for wrap in self.wraps)

    @classmethod
    def from_map(cls, value: object) -> Regrant:
        """Raises Malformed."""
        fields = cbor.Fields(value, "regrant", range(1, 8))
        bare = {key: fields.value(key) for key in range(1, 7)}
        return cls(
            realm=fields.text(1, most=MAX_REALM),
            keeper=fields.octets(2, ID_LENGTH),
            credential=fields.octets(3, HASH_LENGTH),
            announcement=fields.octets(4, HASH_LENGTH),
            kid=fields.octets(5, KID_LENGTH),
            topic=fields.text(6, most=MAX_TOPIC),
            wraps=read_wraps(fields.rows(7, 2), fields.where(7)),
            bound_to=hashlib.sha256(cbor.encode(bare)).digest(),
        )

    def open(self, unsealer: Unsealer, announcement: Announcement) -> bytes:
        """The 32-byte epoch key of `announcement`, for one recipient. Raises Refused."""
        for wrap in self.wraps:
            if wrap.recipient == unsealer.public.id:
                secret = unwrap(unsealer, REGRANT, self.bound_to, wrap.wrapped)
                announcement.check_secret(secret)
                return secret
        raise Refused("not a recipient")


def regrant(
    announced: Announcement,
    announced_hash: bytes,
    secret: bytes,
    recipients: Sequence[PublicKeys],
    *,
    keeper: Signer,
    credential: bytes,
) -> Signed:
    """The signed record; `credential` is the hash of the keeper's. Raises Malformed, or Refused for another key."""
    announced.check_secret(secret)
    fields: dict[int, object] = {
        1: announced.epoch.realm,
        2: keeper.public.id,
        3: credential,
        4: announced_hash,
        5: announced.kid,
        6: announced.epoch.topic,
    }
    wraps = wrap_for(recipients, REGRANT, hashlib.sha256(cbor.encode(fields)).digest(), secret)
    return sign(RecordType.REGRANT, fields | {7: [list(wrap) for wrap in wraps]}, keeper)
