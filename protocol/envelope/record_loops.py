"""The three loops over the records of a batch in record mode: sealing, finding the envelopes, opening (FORMAT.md,
section 10). What record mode costs is what happens here.

`_record_loops.pyx` says the same for a compiler, and is taken where it was built. This is its reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from struct import error as StructError  # noqa: N812 - it is an exception class under a lower-case name
from typing import NamedTuple

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.crypto import RecordCipher
from kveil.protocol.envelope.errors import Reason, Unopenable
from kveil.protocol.envelope.header import HEADER
from kveil.protocol.envelope.origin import (
    COMMON_LENGTH,
    INDEX_AND_LENGTH,
    Origin,
    SealedRecord,
    find_envelope,
    find_origin,
)
from kveil.protocol.envelope.sealed_batch import TOMBSTONE_HEADER
from kveil.protocol.kafka.errors import BatchTooLarge, InvalidRecord
from kveil.protocol.kafka.record_batch import MAX_RECORDS
from kveil.protocol.kafka.records import (
    NO_HEADERS,
    Header,
    read_headers,
    read_records,
    write_headers,
    write_record,
    write_record_header,
)

# flags 1, pad length 4, client timestamp 8, key length 4
PREFIX = Struct(">BIqi")

_SMALLEST_PLAINTEXT = PREFIX.size + len(NO_HEADERS)
_NOT_HIDDEN = -1
_TIME_SPAN = 2**63  # the difference of two timestamps is a varint of 64 bits

Hide = Callable[[bytes], bytes]
"""From a record's key to its wire key."""

AddHeaders = Callable[[bytes, list[Header]], bytes]
"""From the client's headers, with their count, and those on the wire to the ones that are delivered."""


Finish = Callable[[bytes, bytes], bytes]
"""From an envelope up to its tag, and the part of its AAD that speaks of the key, to its trailer."""


class Opened(NamedTuple):
    """Opened records, and what the header of their batch must say of their timestamps."""

    section: bytes
    base_timestamp: int
    max_timestamp: int


def seal_each(
    section: bytes,
    count: int,
    last_offset_delta: int,
    base_timestamp: int,
    *,
    record_common: bytes,
    tombstone_common: bytes,
    extensions: bytes,
    cipher: RecordCipher,
    hide: Hide | None,
    most: int,
    finish: Finish | None = None,
) -> bytes:
    """The sealed records section of the client's `section`, which isn't compressed.

    `record_common` and `tombstone_common` begin the envelopes of the two modes. Without `hide` keys stay as they are.
    `most` is the limit of one envelope's plaintext. `finish`, which the compiled loop doesn't know, makes what stands
    behind the tags. Raises InvalidRecord or BatchTooLarge.
    """
    pack_head = Struct(f">{COMMON_LENGTH}sII{len(extensions)}s").pack
    pack_prefix, encrypt, join = PREFIX.pack, cipher.encrypt, b"".join
    pieces: list[bytes] = []
    records = read_records(section, count, last_offset_delta)
    for index, (timestamp_delta, offset_delta, record_key, value, headers) in enumerate(records):
        try:
            if hide is None or record_key is None:
                wire_key = record_key
                prefix = pack_prefix(0, 0, base_timestamp + timestamp_delta, _NOT_HIDDEN)
                plaintext = join((prefix, headers, value or b""))
            else:
                wire_key = hide(record_key)
                prefix = pack_prefix(0, 0, base_timestamp + timestamp_delta, len(record_key))
                plaintext = join((prefix, record_key, headers, value or b""))
        except StructError:
            raise InvalidRecord("timestamp of a record") from None
        size = len(plaintext)
        if size > most:
            raise BatchTooLarge("record above the limit of one envelope")
        head = pack_head(record_common if value is not None else tombstone_common, index, size, extensions)
        aad = b"%b\x00" % head if wire_key is None else b"%b\x01%b" % (head, wire_key)
        envelope = head + encrypt(index, plaintext, aad)
        if finish is not None:
            envelope += finish(envelope, aad[len(head) :])
        if value is None:
            own = write_headers([write_record_header(TOMBSTONE_HEADER, envelope)])
            pieces += write_record(timestamp_delta, offset_delta, wire_key, None, own)
        else:
            pieces += write_record(timestamp_delta, offset_delta, wire_key, envelope)
    return join(pieces)


def find_each(
    section: bytes, count: int, last_offset_delta: int, origins: dict[tuple[bytes, bytes], Origin], most: int
) -> list[SealedRecord]:
    """The envelopes of all records; what they share is put into `origins`, and looked into once for each run of it.

    `most` is the limit of one envelope's plaintext. Raises InvalidRecord, NotSealed or Unopenable.
    """
    sealed: list[SealedRecord] = []
    no_headers: list[Header] = []
    origin, mode, common, extensions, overhead = None, 0, b"", b"", 0
    unpack, keep, extensions_at = INDEX_AND_LENGTH.unpack_from, sealed.append, HEADER.size
    for _, offset_delta, key, value, raw_headers in read_records(section, count, last_offset_delta):
        if value is not None and raw_headers == NO_HEADERS:  # nearly all
            headers, envelope, expected = no_headers, value, registry.RECORD
        else:
            headers, _ = read_headers(raw_headers)
            envelope, expected = find_envelope(value, headers)
        if (
            origin is None
            or mode != expected
            or not envelope.startswith(common)
            or not envelope.startswith(extensions, extensions_at)
        ):
            origin = find_origin(envelope, expected, origins)
            mode, extensions, overhead = expected, origin.extensions, origin.overhead
            common = envelope[:COMMON_LENGTH]
        index, size = unpack(envelope, COMMON_LENGTH)
        if size != len(envelope) - overhead or not _SMALLEST_PLAINTEXT <= size <= most:
            raise Unopenable(Reason.LENGTH)
        if index >= MAX_RECORDS:
            raise Unopenable(Reason.INDEX)
        keep((origin, index, offset_delta, key, envelope, headers))
    return sealed


def open_each(
    records: Sequence[SealedRecord],
    openers: Mapping[Origin, tuple[RecordCipher, Hide | None]],
    add_headers: AddHeaders | None,
) -> Opened:
    """The client's records, one at least, from their envelopes. Raises Unopenable.

    `openers` has what opens each origin, and what hid its keys if anything did.
    """
    timestamps: list[int] = []
    pieces: list[bytes] = []
    last: Origin | None = None
    for origin, index, offset_delta, wire_key, envelope, wire_headers in records:
        if origin is not last:
            cipher, hide = openers[origin]
            decrypt, mode, start, last = cipher.decrypt, origin.mode, origin.ciphertext_at, origin
        head = envelope[:start]
        aad = b"%b\x00" % head if wire_key is None else b"%b\x01%b" % (head, wire_key)
        plaintext = decrypt(index, envelope[start:], aad, Reason.TAG)
        timestamp, key, headers, value = _read_plaintext(plaintext, mode, wire_key, hide)
        if wire_headers and add_headers is not None:
            headers = add_headers(headers, wire_headers)
        timestamps.append(timestamp)
        pieces += write_record(timestamp - timestamps[0], offset_delta, key, value, headers)
    if max(timestamps) - min(timestamps) >= _TIME_SPAN:
        raise Unopenable(Reason.INNER_RECORD)
    return Opened(b"".join(pieces), timestamps[0], max(timestamps))


def _read_plaintext(
    plaintext: bytes, mode: int, wire_key: bytes | None, hide: Hide | None
) -> tuple[int, bytes | None, bytes, bytes | None]:
    """Client timestamp, key, headers with their count, value. Raises Unopenable."""
    flags, pad_length, timestamp, key_length = PREFIX.unpack_from(plaintext)
    if flags:
        raise Unopenable(Reason.FLAGS)
    pos, end = PREFIX.size, len(plaintext) - pad_length
    if pad_length and (end <= pos or any(plaintext[end:])):
        raise Unopenable(Reason.PAD)
    if key_length < _NOT_HIDDEN or (hide is None and key_length != _NOT_HIDDEN):
        raise Unopenable(Reason.INNER_RECORD)
    if hide is None:
        key = wire_key
    else:
        key = plaintext[pos : (pos := pos + key_length)] if key_length >= 0 else None
        if wire_key != (None if key is None else hide(key)):
            raise Unopenable(Reason.WIRE_KEY)
    if plaintext[pos : pos + 1] == NO_HEADERS:
        headers = NO_HEADERS
        pos += 1
    else:
        headers, pos = _inner_headers(plaintext, pos)
    is_tombstone = mode == registry.TOMBSTONE
    if pos > end or (is_tombstone and pos < end):
        raise Unopenable(Reason.INNER_RECORD)
    return timestamp, key, headers, None if is_tombstone else plaintext[pos:end]


def _inner_headers(plaintext: bytes, pos: int) -> tuple[bytes, int]:
    """The client's headers with their count, and the position after them."""
    start = pos
    try:
        _, pos = read_headers(plaintext, pos)
    except InvalidRecord:
        raise Unopenable(Reason.INNER_RECORD) from None
    return plaintext[start:pos], pos
