"""Beacons: how far a producer's process is (FORMAT.md, section 9)."""

from __future__ import annotations

from dataclasses import dataclass

from kveil.protocol.identity import cbor
from kveil.protocol.identity.identity import ID_LENGTH
from kveil.protocol.identity.marks import CHAIN_LENGTH, Head, Kept, read_heads, read_transaction_ends
from kveil.protocol.identity.progress import Progress, TransactionEnd
from kveil.protocol.identity.signing import HASH_LENGTH, MAX_REALM


@dataclass(frozen=True, slots=True, kw_only=True)
class Beacon:
    """A beacon's fields."""

    realm: str
    producer: bytes
    credential: bytes
    chain: bytes
    number: int
    created: int
    head: Head
    checkpoint: Kept
    heads: tuple[Progress, ...] = ()
    last: bool = False
    ended: tuple[TransactionEnd, ...] = ()

    def to_map(self) -> dict[int, object]:
        """As it is signed."""
        return {
            1: self.realm,
            2: self.producer,
            3: self.credential,
            4: self.chain,
            5: self.number,
            6: self.created,
            7: list(self.head),
            8: self.checkpoint.to_list(),
            9: [list(head) for head in sorted(self.heads)],
            10: self.last,
            11: [list(ended) for ended in sorted(self.ended)],
        }

    @classmethod
    def from_map(cls, value: object) -> Beacon:
        """The strict inverse. Raises Malformed."""
        fields = cbor.Fields(value, "beacon", range(1, 12))
        sequence, digest = fields.items(7, length=2)
        where = fields.where(7)
        head = Head(cbor.as_uint(sequence, where, least=1), cbor.as_bytes(digest, where, HASH_LENGTH))
        return cls(
            realm=fields.text(1, most=MAX_REALM),
            producer=fields.octets(2, ID_LENGTH),
            credential=fields.octets(3, HASH_LENGTH),
            chain=fields.octets(4, CHAIN_LENGTH),
            number=fields.uint(5, least=1),
            created=fields.uint(6),
            head=head,
            checkpoint=Kept.from_value(fields.value(8), fields.where(8)),
            heads=read_heads(fields.items(9), fields.where(9)),
            last=fields.flag(10),
            ended=read_transaction_ends(fields.items(11), fields.where(11)),
        )
