"""Checkpoints: who is live, and since when who isn't (FORMAT.md, section 5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from kveil.protocol.identity import cbor
from kveil.protocol.identity.credential import SKEW_SECONDS
from kveil.protocol.identity.crypto import KemSuite
from kveil.protocol.identity.errors import Malformed
from kveil.protocol.identity.identity import ID_LENGTH
from kveil.protocol.identity.marks import Head, read_chain, read_marks
from kveil.protocol.identity.progress import Mark
from kveil.protocol.identity.signing import HASH_LENGTH, MAX_REALM, NO_HASH

_FIELDS: Final = range(1, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A producer that isn't one any more, and what it did while it was."""

    id: bytes
    chains: dict[bytes, Head]
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint's fields. `live` is from serials to hashes. Raises Malformed for what it can't say."""

    realm: str
    number: int
    previous: bytes
    created: int
    expires: int
    live: dict[int, bytes] = field(repr=False)
    ended: tuple[Ended, ...] = field(default=(), repr=False)
    suite: KemSuite
    signatures: bool = True
    positions: bool = True

    def __post_init__(self) -> None:
        if (self.number == 1) is not (self.previous == NO_HASH):
            raise Malformed("checkpoint: the first has none before it, and only the first")
        if self.expires < self.created:
            raise Malformed("checkpoint: expires before it is created")

    def expired(self, now: int) -> bool:
        """Whether the lease is over, by clocks that may be apart."""
        return now > self.expires + SKEW_SECONDS

    def to_map(self) -> dict[int, object]:
        """As it is signed."""
        ended = [
            [
                one.id,
                [[chain, *one.chains[chain]] for chain in sorted(one.chains)],
                [list(mark) for mark in sorted(one.marks)],
            ]
            for one in sorted(self.ended, key=lambda one: one.id)
        ]
        return {
            1: self.realm,
            2: self.number,
            3: self.previous,
            4: self.created,
            5: self.expires,
            6: [[serial, self.live[serial]] for serial in sorted(self.live)],
            7: ended,
            8: int(self.suite),
            9: [self.signatures, self.positions],
        }

    @classmethod
    def from_map(cls, value: object) -> Checkpoint:
        """The strict inverse. Raises Malformed."""
        fields = cbor.Fields(value, "checkpoint", _FIELDS)
        where = fields.where(6)
        live = [
            (cbor.as_uint(serial, where, least=1), cbor.as_bytes(digest, where, HASH_LENGTH))
            for serial, digest in fields.rows(6, 2)
        ]
        cbor.check_ascending([serial for serial, _ in live], where)
        ended = tuple(_read_ended(row, fields.where(7)) for row in fields.rows(7, 3))
        cbor.check_ascending([one.id for one in ended], fields.where(7))
        signatures, positions = fields.items(9, length=2)
        if not isinstance(signatures, bool) or not isinstance(positions, bool):
            raise Malformed(f"{fields.where(9)}: not booleans")
        return cls(
            realm=fields.text(1, most=MAX_REALM),
            number=fields.uint(2, least=1),
            previous=fields.octets(3, HASH_LENGTH),
            created=fields.uint(4),
            expires=fields.uint(5),
            live=dict(live),
            ended=ended,
            suite=KemSuite(fields.uint(8, least=1, most=len(KemSuite))),
            signatures=signatures,
            positions=positions,
        )


def _read_ended(row: list[object], where: str) -> Ended:
    chains = [read_chain(cbor.as_list(item, where, length=3), where) for item in cbor.as_list(row[1], where)]
    cbor.check_ascending([chain for chain, _ in chains], where)
    marks = read_marks(cbor.as_list(row[2], where), where)
    return Ended(id=cbor.as_bytes(row[0], where, ID_LENGTH), chains=dict(chains), marks=marks)
