"""What a hostile broker makes of a stored batch. Checksum and lengths are right again afterwards, as it would do it.

Each takes the batch that was asked for and two others of its own choice, all sealed and without an outer codec, and
returns what is delivered in its place.
"""

import gzip
from collections.abc import Callable, Sequence
from struct import pack_into
from typing import Any, NamedTuple

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import HEADER
from kveil.protocol.kafka.record_batch import (
    CONTROL,
    HEADER_LENGTH,
    TRANSACTIONAL,
    read_header,
    split_batches,
    write_header,
)
from kveil.protocol.kafka.records import (
    NO_HEADERS,
    Record,
    read_records,
    write_headers,
    write_record,
    write_record_header,
)
from tests.support.raw_client import batch
from tests.support.records import at_offset, legacy, marker
from tests.support.tampering import with_checksum

VERSION_AT, MODE_AT, SUITE_AT, LENGTH_AT, KID_AT, SALT_AT = 3, 4, 5, 6, 8, 24
_GZIP = 1
_PRODUCER_ID_AT = 43
_SIGNED = bytes.fromhex("830003010040")
"""The extension that says that there is a trailer, and of how many bytes."""


class Stored(NamedTuple):
    """What the broker has: the batch that was asked for, one of another topic, one of another partition."""

    batch: bytes
    of_another_topic: bytes
    of_another_partition: bytes

    @property
    def offset(self) -> int:
        """Where it was asked for."""
        return read_header(self.batch).base_offset


Attack = Callable[[Stored], bytes]


def records_in(stored: bytes) -> list[Record]:
    """The records as the broker sees them."""
    header = read_header(stored)
    return list(read_records(stored[HEADER_LENGTH:], header.record_count, header.last_offset_delta))


def rebuilt(stored: bytes, records: Sequence[Record], **changes: Any) -> bytes:
    """The batch with other records in it, and their count unless told otherwise."""
    header = read_header(stored)
    section = b"".join(piece for one in records for piece in write_record(*one))
    fields = {
        "base_offset": header.base_offset,
        "partition_leader_epoch": header.partition_leader_epoch,
        "attributes": header.attributes,
        "last_offset_delta": header.last_offset_delta,
        "base_timestamp": header.base_timestamp,
        "max_timestamp": header.max_timestamp,
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "record_count": len(records),
        **changes,
    }
    return write_header(records=[section], **fields) + section


def with_envelope(stored: bytes, change: Callable[[bytearray], bytes | bytearray | None]) -> bytes:
    """The batch with its first envelope changed, in place or by what is returned."""
    (timestamp, delta, key, value, headers), *others = records_in(stored)
    envelope = bytearray(value or b"")
    changed = change(envelope)
    return rebuilt(stored, [(timestamp, delta, key, bytes(envelope if changed is None else changed), headers), *others])


def _flipped(stored: Stored, at: int) -> bytes:
    def change(envelope: bytearray) -> None:
        envelope[at] ^= 1

    return with_envelope(stored.batch, change)


def _flipped_before_trailer(stored: Stored, back: int) -> bytes:
    def change(envelope: bytearray) -> None:
        trailer = _SIGNED[-1] if _SIGNED in envelope else 0
        envelope[-back - trailer] ^= 1

    return with_envelope(stored.batch, change)


def _set(stored: Stored, at: int, value: int) -> bytes:
    def change(envelope: bytearray) -> None:
        envelope[at] = value

    return with_envelope(stored.batch, change)


# Bytes -----------------------------------------------------------------------------------------------------------


def edit_the_ciphertext(stored: Stored) -> bytes:
    return _flipped_before_trailer(stored, 30)


def edit_the_tag(stored: Stored) -> bytes:
    return _flipped_before_trailer(stored, 1)


def edit_the_last_byte(stored: Stored) -> bytes:
    """Of the signature where there is one, else of the tag."""
    return _flipped(stored, -1)


def edit_the_salt(stored: Stored) -> bytes:
    return _flipped(stored, SALT_AT)


def edit_the_key_id(stored: Stored) -> bytes:
    return _flipped(stored, KID_AT + 10)


def edit_the_commitment(stored: Stored) -> bytes:
    def change(envelope: bytearray) -> None:
        envelope[HEADER.size + int.from_bytes(envelope[LENGTH_AT:KID_AT], "big")] ^= 1

    return with_envelope(stored.batch, change)


def truncate_the_envelope(stored: Stored) -> bytes:
    return with_envelope(stored.batch, lambda envelope: envelope[:-5])


def cut_the_batch_short(stored: Stored) -> bytes:
    """As a broker does with the last batch of an answer: here it never comes whole."""
    return stored.batch[: len(stored.batch) - 7]


def strip_the_extensions(stored: Stored) -> bytes:
    def change(envelope: bytearray) -> bytes:
        length = int.from_bytes(envelope[LENGTH_AT:KID_AT], "big")
        return (
            bytes(envelope[:LENGTH_AT])
            + bytes(2)
            + bytes(envelope[KID_AT : HEADER.size] + envelope[HEADER.size + length :])
        )

    return with_envelope(stored.batch, change)


def add_a_critical_extension(stored: Stored) -> bytes:
    added = b"\xff\0\1x"

    def change(envelope: bytearray) -> bytes:
        length = int.from_bytes(envelope[LENGTH_AT:KID_AT], "big")
        end = HEADER.size + length
        head = bytes(envelope[:LENGTH_AT]) + (length + len(added)).to_bytes(2, "big") + bytes(envelope[KID_AT:end])
        return head + added + bytes(envelope[end:])

    return with_envelope(stored.batch, change)


# Downgrades ------------------------------------------------------------------------------------------------------


def downgrade_the_version(stored: Stored) -> bytes:
    return _set(stored, VERSION_AT, 0)


def downgrade_the_suite(stored: Stored) -> bytes:
    return _set(stored, SUITE_AT, 0)


def downgrade_the_mode(stored: Stored) -> bytes:
    return _set(stored, MODE_AT, 0)


def downgrade_to_an_old_format(stored: Stored) -> bytes:
    return stored.offset.to_bytes(8, "big") + legacy(1)[8:]


def pass_it_as_record_mode(stored: Stored) -> bytes:
    return _set(stored, MODE_AT, registry.RECORD)


# Swaps -----------------------------------------------------------------------------------------------------------


def swap_topics(stored: Stored) -> bytes:
    return at_offset(stored.of_another_topic, stored.offset)


def swap_partitions(stored: Stored) -> bytes:
    return at_offset(stored.of_another_partition, stored.offset)


def swap_producer_ids(stored: Stored) -> bytes:
    changed = bytearray(stored.batch)
    pack_into(">qhi", changed, _PRODUCER_ID_AT, 4711, 0, 0)
    return with_checksum(bytes(changed))


def swap_keys(stored: Stored) -> bytes:
    """Between two records of a compacted topic."""
    first, second, *others = records_in(stored.batch)
    return rebuilt(stored.batch, [(*first[:2], second[2], *first[3:]), (*second[:2], first[2], *second[3:]), *others])


def swap_values(stored: Stored) -> bytes:
    """The other way round: each value under the other's key."""
    first, second, *others = records_in(stored.batch)
    return rebuilt(stored.batch, [(*first[:3], second[3], first[4]), (*second[:3], first[3], second[4]), *others])


# Stubs and records -----------------------------------------------------------------------------------------------


def drop_a_stub(stored: Stored) -> bytes:
    records = records_in(stored.batch)[:-1]
    return rebuilt(stored.batch, records, last_offset_delta=len(records) - 1)


def add_a_stub(stored: Stored) -> bytes:
    records = records_in(stored.batch)
    more = (0, len(records), b"k", b"invented", NO_HEADERS)
    return rebuilt(stored.batch, [*records, more], last_offset_delta=len(records))


def write_into_a_stub(stored: Stored) -> bytes:
    first, second, *others = records_in(stored.batch)
    return rebuilt(stored.batch, [first, (*second[:2], b"k", b"invented", NO_HEADERS), *others])


def put_the_envelope_second(stored: Stored) -> bytes:
    first, second, *others = records_in(stored.batch)
    return rebuilt(stored.batch, [(*first[:2], *second[2:]), (*second[:2], *first[2:]), *others])


def invent_plain_records(stored: Stored) -> bytes:
    return at_offset(batch([b"invented"] * read_header(stored.batch).record_count), stored.offset)


def invent_a_tombstone(stored: Stored) -> bytes:
    """A plain null value, which would delete a key for those who read a compacted topic."""
    return at_offset(batch([None] * read_header(stored.batch).record_count), stored.offset)


def make_a_tombstone_of_a_value(stored: Stored) -> bytes:
    first, *others = records_in(stored.batch)
    return rebuilt(stored.batch, [(*first[:3], None, NO_HEADERS), *others])


def pass_a_value_as_a_sealed_tombstone(stored: Stored) -> bytes:
    """What a tombstone looks like, made of a value's envelope."""
    (timestamp, delta, key, value, _), *others = records_in(stored.batch)
    envelope = bytearray(value or b"")
    envelope[MODE_AT] = registry.TOMBSTONE
    headers = write_headers([write_record_header(b"kveil", bytes(envelope))])
    return rebuilt(stored.batch, [(timestamp, delta, key, None, headers), *others])


def mix_a_plain_record_in(stored: Stored) -> bytes:
    first, second, *others = records_in(stored.batch)
    return rebuilt(stored.batch, [first, (*second[:3], b"invented", NO_HEADERS), *others])


# Batches that consumers step over, or take another way -------------------------------------------------------------


def call_it_a_control_batch(stored: Stored) -> bytes:
    return rebuilt(stored.batch, records_in(stored.batch), attributes=CONTROL)


def hide_records_in_a_marker(stored: Stored) -> bytes:
    return at_offset(marker(content=b"".join(write_record(0, 0, b"\0\0\0\1", b"invented"))), stored.offset)


def hide_records_in_an_empty_batch(stored: Stored) -> bytes:
    return rebuilt(stored.batch, records_in(stored.batch), record_count=0)


def call_it_transactional(stored: Stored) -> bytes:
    """So that a list of aborted transactions would take it from consumers."""
    return rebuilt(stored.batch, records_in(stored.batch), attributes=TRANSACTIONAL)


def send_a_bomb(stored: Stored) -> bytes:
    """The true records, and behind them a gigabyte in some kB."""
    bomb = gzip.compress(stored.batch[HEADER_LENGTH:]) + gzip.compress(bytes(1 << 20)) * 1024
    fields = read_header(stored.batch)._asdict() | {"attributes": _GZIP}
    for computed in ("batch_length", "magic", "crc"):
        del fields[computed]
    return write_header(records=[bomb], **fields) + bomb


# Transactions: what an answer says of their ends, to those who read committed records only ----------------------------


class Transacted(NamedTuple):
    """A partition of an answer that has one producer id's transactions."""

    records: bytes
    aborted: tuple[tuple[int, int], ...]
    """Producer ids and first offsets."""
    first_offset: int
    """Of the transaction that is lied about."""

    @property
    def of_another_end(self) -> bytes:
        """The records with the other marker at the transaction's end."""
        batches = [bytes(view) for view in split_batches(memoryview(self.records))]
        place = next(
            place
            for place, header in enumerate(map(read_header, batches))
            if header.is_control and header.base_offset > self.first_offset
        )
        marker_ = bytearray(batches[place])
        marker_[_MARKER_TYPE_AT] ^= 1
        batches[place] = with_checksum(bytes(marker_))
        return b"".join(batches)

    @property
    def with_entry(self) -> tuple[tuple[int, int], ...]:
        producers = {read_header(view).producer_id for view in split_batches(memoryview(self.records))}
        return (*self.aborted, *((producer, self.first_offset) for producer in producers))

    @property
    def without_entry(self) -> tuple[tuple[int, int], ...]:
        return tuple(entry for entry in self.aborted if entry[1] != self.first_offset)


_MARKER_TYPE_AT = -9
"""From the end of a marker: its value has 6 bytes and their length before, and there are no headers."""


def list_a_committed_transaction_as_aborted(told: Transacted) -> Transacted:
    return told._replace(aborted=told.with_entry)


def pass_a_commit_as_an_abort(told: Transacted) -> Transacted:
    return told._replace(records=told.of_another_end, aborted=told.with_entry)


def leave_an_aborted_transaction_out(told: Transacted) -> Transacted:
    return told._replace(aborted=told.without_entry)


def pass_an_abort_as_a_commit(told: Transacted) -> Transacted:
    return told._replace(records=told.of_another_end, aborted=told.without_entry)
