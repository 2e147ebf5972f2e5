"""Small things that several records name: checkpoints, heads of chains, and how far batches go."""

from __future__ import annotations

from typing import Final, NamedTuple

from kveil.protocol.envelope.header import KID_LENGTH
from kveil.protocol.identity import cbor
from kveil.protocol.identity.progress import Mark, Progress, TransactionEnd
from kveil.protocol.identity.signing import HASH_LENGTH

CHAIN_LENGTH: Final = 16
_MAX_32: Final = 2**32 - 1
_MAX_PARTITION: Final = 2**31 - 1


class Kept(NamedTuple):
    """A checkpoint by number and hash: what a node keeps on disk, and what records say that their maker had."""

    number: int
    hash: bytes

    def to_list(self) -> list[object]:
        return [self.number, self.hash]

    @classmethod
    def from_value(cls, value: object, where: str) -> Kept:
        number, digest = cbor.as_list(value, where, length=2)
        return cls(cbor.as_uint(number, where, least=1), cbor.as_bytes(digest, where, HASH_LENGTH))


class Head(NamedTuple):
    """How far a chain goes: the sequence and hash of its last record."""

    sequence: int
    hash: bytes


def read_chain(row: list[object], where: str) -> tuple[bytes, Head]:
    """`[chain, sequence, hash]`."""
    chain = cbor.as_bytes(row[0], where, CHAIN_LENGTH)
    return chain, Head(cbor.as_uint(row[1], where, least=1), cbor.as_bytes(row[2], where, HASH_LENGTH))


def read_marks(rows: list[object], where: str, kid: bytes | None = None) -> tuple[Mark, ...]:
    """`[[kid, partition, lane, batches] ...]`, or without kids where `kid` is given; ascending."""
    made = []
    for item in rows:
        row = cbor.as_list(item, where, length=4 if kid is None else 3)
        mark_kid = cbor.as_bytes(row[0], where, KID_LENGTH) if kid is None else kid
        partition, lane, batches = row[-3:]
        made.append(Mark(mark_kid, *_read_place(partition, lane, where), cbor.as_uint(batches, where)))
    cbor.check_ascending([mark[:3] for mark in made], where)
    return tuple(made)


def read_heads(rows: list[object], where: str) -> tuple[Progress, ...]:
    """`[[kid, partition, lane, acknowledged, sealed] ...]`, ascending."""
    made = []
    for item in rows:
        kid, partition, lane, acknowledged, sealed = cbor.as_list(item, where, length=5)
        most = cbor.as_uint(sealed, where)
        place = cbor.as_bytes(kid, where, KID_LENGTH), *_read_place(partition, lane, where)
        made.append(Progress(*place, cbor.as_uint(acknowledged, where, most=most), most))
    cbor.check_ascending([head[:3] for head in made], where)
    return tuple(made)


def read_transaction_ends(rows: list[object], where: str) -> tuple[TransactionEnd, ...]:
    """`[[kid, partition, lane, first, last, committed] ...]`, ascending, none of a lane in two rows."""
    made: list[TransactionEnd] = []
    for item in rows:
        kid, partition, lane, first, last, committed = cbor.as_list(item, where, length=6)
        place = cbor.as_bytes(kid, where, KID_LENGTH), *_read_place(partition, lane, where)
        free = made[-1].last + 1 if made and made[-1][:3] == place else 1
        begin = cbor.as_uint(first, where, least=free)
        made.append(
            TransactionEnd(*place, begin, cbor.as_uint(last, where, least=begin), cbor.as_flag(committed, where))
        )
    cbor.check_ascending([ended[:4] for ended in made], where)
    return tuple(made)


def _read_place(partition: object, lane: object, where: str) -> tuple[int, int]:
    return cbor.as_uint(partition, where, most=_MAX_PARTITION), cbor.as_uint(lane, where, most=_MAX_32)
