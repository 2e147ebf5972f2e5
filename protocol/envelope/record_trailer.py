"""What stands behind the tags of a batch's records: each has a trailer of its own (FORMAT.md, section 10.5)."""

from __future__ import annotations

from collections.abc import Mapping

from kveil.protocol.envelope.key_schedule import EpochKey
from kveil.protocol.envelope.origin import Origin, SealedRecord
from kveil.protocol.envelope.position import Slot
from kveil.protocol.envelope.record_loops import Finish
from kveil.protocol.envelope.trailer import check_trailer, make_trailer


def finisher(key: EpochKey, partition: int, slot: Slot | None) -> Finish:
    """What makes the trailers of a batch's records, and notes the digest of the first envelope in `slot`."""
    noting = slot

    def finish(envelope: bytes, key_part: bytes) -> bytes:
        nonlocal noting
        trailer = make_trailer(envelope, key_part=key_part, key=key, partition=partition, slot=noting)
        noting = None
        return trailer

    return finish


def has_more(origin: Origin, key: EpochKey) -> bool:
    """Whether envelopes have, or must have, more than their key opens."""
    return origin.says.trailer_length > 0 or origin.says.position is not None or not key.is_plain


def without_trailer(record: SealedRecord) -> SealedRecord:
    """The record as the loops know it."""
    origin, index, offset_delta, wire_key, envelope, headers = record
    end = len(envelope) - origin.says.trailer_length
    return origin, index, offset_delta, wire_key, envelope[:end], headers


def check_record(record: SealedRecord, checked: Mapping[Origin, tuple[EpochKey, int]]) -> bytes:
    """The digest of a record's envelope, if its origin is among those to check. Raises Unopenable."""
    origin, _, _, wire_key, envelope, _ = record
    if origin not in checked:
        return b""
    key, partition = checked[origin]
    end = len(envelope) - origin.says.trailer_length
    return check_trailer(
        envelope[:end],
        key_part=b"\x00" if wire_key is None else b"\x01" + wire_key,
        trailer=envelope[end:],
        says=origin.says,
        key=key,
        partition=partition,
    )
