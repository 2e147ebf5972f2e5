"""Announcements of epoch keys (FORMAT.md, section 8)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.crypto import SigningKey, VerifyKey
from kveil.protocol.envelope.header import KID_LENGTH, KeyBlock
from kveil.protocol.envelope.key_schedule import MAX_EPOCH_SECONDS, EpochKey, derive_kid, derive_kid_check
from kveil.protocol.identity import cbor, crypto
from kveil.protocol.identity.credential import MAX_TOPIC
from kveil.protocol.identity.errors import Malformed, Refused
from kveil.protocol.identity.identity import ID_LENGTH, PublicKeys, Signer, Unsealer
from kveil.protocol.identity.marks import CHAIN_LENGTH, Kept, read_marks
from kveil.protocol.identity.progress import Mark
from kveil.protocol.identity.signing import HASH_LENGTH, MAX_REALM, NO_HASH, RecordType, Signed, sign
from kveil.protocol.identity.wrapping import EPOCH_KEY, Wrap, read_wraps, recipients_hash, unwrap, wrap_for

CHECK_LENGTH: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The key that a new one replaces, and how far it went."""

    kid: bytes
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What a producer says of an epoch, beside the key and its recipients. Raises Malformed for what it can't say."""

    realm: str
    producer: bytes
    credential: bytes
    topic: str
    created: int
    not_after: int
    chain: bytes
    sequence: int
    previous: bytes
    checkpoint: Kept
    batch_key: bytes | None
    positions: bool
    replaces: Ending | None = None
    first: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.not_after - self.created <= MAX_EPOCH_SECONDS:
            raise Malformed("announcement: an epoch key is for 24 hours at most")
        if (self.sequence == 1) is not (self.previous == NO_HASH):
            raise Malformed("announcement: the first of a chain has none before it, and only the first")
        if not 1 <= self.first <= self.sequence:
            raise Malformed("announcement: its process began behind it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """An announcement's fields."""

    epoch: Epoch
    kid: bytes
    check: bytes
    wraps: tuple[Wrap, ...] = field(repr=False)
    bound_to: bytes = field(repr=False)  # the digest that wraps are bound to

    @property
    def recipients(self) -> tuple[bytes, ...]:
        return tuple(wrap.recipient for wrap in self.wraps)

    @classmethod
    def from_map(cls, value: object) -> Announcement:
        """Raises Malformed."""
        fields = cbor.Fields(value, "announcement", range(1, 18))
        epoch = Epoch(
            realm=fields.text(1, most=MAX_REALM),
            producer=fields.octets(2, ID_LENGTH),
            credential=fields.octets(3, HASH_LENGTH),
            topic=fields.text(4, most=MAX_TOPIC),
            created=fields.uint(7),
            not_after=fields.uint(8),
            chain=fields.octets(9, CHAIN_LENGTH),
            sequence=fields.uint(10, least=1),
            previous=fields.octets(11, HASH_LENGTH),
            checkpoint=Kept.from_value(fields.value(12), fields.where(12)),
            batch_key=None if fields.value(13) is None else fields.octets(13, crypto.ED25519_LENGTH),
            positions=fields.flag(14),
            replaces=_read_ending(fields.value(15), fields.where(15)),
            first=fields.uint(17, least=1),
        )
        kid, check = fields.octets(5, KID_LENGTH), fields.octets(6, CHECK_LENGTH)
        return cls(
            epoch=epoch,
            kid=kid,
            check=check,
            wraps=read_wraps(fields.rows(16, 2), fields.where(16)),
            bound_to=_digest(_to_map(epoch, kid, check)),
        )

    def open(self, unsealer: Unsealer) -> bytes:
        """The 32-byte epoch key for one recipient. Raises Refused."""
        for wrap in self.wraps:
            if wrap.recipient == unsealer.public.id:
                secret = unwrap(unsealer, EPOCH_KEY, self.bound_to, wrap.wrapped)
                self.check_secret(secret)
                return secret
        raise Refused("not a recipient")

    def check_secret(self, secret: bytes) -> None:
        """Raises Refused unless this is the key that was announced, whoever handed it out."""
        if (self.kid, self.check) != _kid_and_check(self.epoch, secret):
            raise Refused("another key than the one announced")

    def epoch_key(
        self, secret: bytes, recipients: Sequence[bytes] | None = None, signing_key: SigningKey | None = None
    ) -> EpochKey:
        """What seals and opens batches under it, and checks what it announces that they carry.

        `recipients` if the wraps of others aren't there any more, `signing_key` for the producer alone. Raises
        Malformed if batches are to be signed with what is no key.
        """
        batch_key = self.epoch.batch_key
        try:
            verify_key = None if batch_key is None else VerifyKey(batch_key)
        except ValueError:
            raise Malformed("announcement: its batch key is none") from None
        return EpochKey(
            secret=secret,
            realm=self.epoch.realm,
            topic=self.epoch.topic,
            kid=self.kid,
            block=key_block(self.epoch.topic, self.recipients if recipients is None else recipients),
            producer_id=self.epoch.producer,
            signing_key=signing_key,
            verify_key=verify_key,
            demands_signature=verify_key is not None,
            demands_position=self.epoch.positions,
        )


def announce(epoch: Epoch, secret: bytes, recipients: Sequence[PublicKeys], signer: Signer) -> Signed:
    """The signed record. Raises Malformed if there are too many recipients for one record, two alike, or none."""
    fields = _to_map(epoch, *_kid_and_check(epoch, secret))
    wraps = wrap_for(recipients, EPOCH_KEY, _digest(fields), secret)
    return sign(RecordType.ANNOUNCEMENT, fields | {16: [list(wrap) for wrap in wraps]}, signer)


def key_block(topic: str, recipients: Sequence[bytes]) -> KeyBlock:
    """What envelopes carry: the version is for people only."""
    version = recipients_hash(recipients).hex()[:16]
    return KeyBlock(provider=registry.ANNOUNCED, name=topic, mechanism=registry.NO_WRAP, version=version, wrapped=b"")


def _kid_and_check(epoch: Epoch, secret: bytes) -> tuple[bytes, bytes]:
    realm, topic, provider, producer = epoch.realm, epoch.topic, registry.ANNOUNCED, epoch.producer
    return (
        derive_kid(secret, realm=realm, topic=topic, provider=provider, producer_id=producer),
        derive_kid_check(secret, realm=realm, topic=topic, provider=provider, producer_id=producer),
    )


def _digest(fields: dict[int, object]) -> bytes:
    return hashlib.sha256(cbor.encode(fields)).digest()


def _to_map(epoch: Epoch, kid: bytes, check: bytes) -> dict[int, object]:
    replaces: list[object] | None = None
    if epoch.replaces is not None:
        replaces = [epoch.replaces.kid, [list(mark[1:]) for mark in sorted(epoch.replaces.marks)]]
    return {
        1: epoch.realm,
        2: epoch.producer,
        3: epoch.credential,
        4: epoch.topic,
        5: kid,
        6: check,
        7: epoch.created,
        8: epoch.not_after,
        9: epoch.chain,
        10: epoch.sequence,
        11: epoch.previous,
        12: epoch.checkpoint.to_list(),
        13: epoch.batch_key,
        14: epoch.positions,
        15: replaces,
        17: epoch.first,
    }


def _read_ending(value: object, where: str) -> Ending | None:
    if value is None:
        return None
    kid, rows = cbor.as_list(value, where, length=2)
    kid = cbor.as_bytes(kid, where, KID_LENGTH)
    return Ending(kid=kid, marks=read_marks(cbor.as_list(rows, where), where, kid))
