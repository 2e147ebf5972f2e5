"""What the reader's side of stream positions is told of an opened batch (FORMAT.md, section 14.3)."""

from __future__ import annotations

from typing import NamedTuple

from kveil.protocol.envelope.position import Position
from kveil.protocol.envelope.sealed_batch import SealedBatch
from kveil.protocol.envelope.sealed_records import RecordSealedBatch


class Seen(NamedTuple):
    """An envelope that was opened at `offset`. `nth` is the record's in its writer's batch, None in batch mode."""

    kid: bytes
    position: Position
    offset: int
    digest: bytes
    nth: int | None = None


def seen_in(sealed: SealedBatch | RecordSealedBatch) -> list[Seen]:
    """The envelopes of an opened batch that have positions, by offset."""
    base = sealed.header.base_offset
    if isinstance(sealed, SealedBatch):
        position = sealed.says.position
        return [] if position is None else [Seen(sealed.kid, position, base, sealed.digest)]
    return [
        Seen(record[0].kid, record[0].says.position, base + record[2], digest, record[1])
        for record, digest in zip(sealed.records, sealed.digests, strict=False)  # none, if none has a position
        if record[0].says.position is not None
    ]
