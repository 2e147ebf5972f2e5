"""Finding the envelopes in a fetched batch of record mode, without a key (FORMAT.md, section 10).

Records of one writer's batch share all of an envelope's header but index and length, so that part is looked into
once for each run of them. A replicator or the broker may have put records of many batches together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.crypto import TAG_LENGTH
from kveil.protocol.envelope.errors import NotSealed, OtherMode, Reason, Unopenable
from kveil.protocol.envelope.header import HEADER, MAX_EXTENSIONS, Extensions, KeyBlock, decode_extensions
from kveil.protocol.envelope.sealed_batch import MAX_PLAINTEXT, TOMBSTONE_HEADER
from kveil.protocol.kafka import compression
from kveil.protocol.kafka.compression import MAX_DECOMPRESSED
from kveil.protocol.kafka.errors import CorruptBatch, InvalidRecord
from kveil.protocol.kafka.record_batch import HEADER_LENGTH, MAGIC, MAX_RECORDS, BatchHeader
from kveil.protocol.kafka.records import NO_HEADERS, Header, read_headers, read_records

# flags 1, pad length 4, client timestamp 8, key length 4
RECORD_PREFIX = Struct(">BIqi")
INDEX_AND_LENGTH = Struct(">II")
COMMON_LENGTH = HEADER.size - INDEX_AND_LENGTH.size  # of the envelope header: magic to salt

_SMALLEST_PLAINTEXT = RECORD_PREFIX.size + len(NO_HEADERS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Origin:
    """What envelopes of one writer's batch have in common. Nothing in it is authenticated."""

    mode: int
    kid: bytes
    salt: bytes
    extensions: bytes = field(repr=False)
    says: Extensions
    ciphertext_at: int


SealedRecord = tuple[Origin, int, int, bytes | None, bytes, bytes, list[Header]]
"""Origin, index, offset delta, wire key, envelope up to its ciphertext, ciphertext and tag, wire headers."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecordSealedBatch:
    """A batch of sealed records, parsed and not yet opened. Nothing in it is authenticated."""

    header: BatchHeader
    origins: list[Origin]
    records: list[SealedRecord] = field(repr=False)

    @property
    def keys(self) -> list[tuple[bytes, KeyBlock]]:
        """The distinct epoch keys that it takes to open this."""
        return list(dict.fromkeys((origin.kid, origin.says.block) for origin in self.origins))


def peek_records(batch: memoryview, header: BatchHeader) -> RecordSealedBatch:
    """Parses one fetched batch, `header` being its `read_header`. Raises Unopenable, or NotSealed if no record at
    all has an envelope.

    Not for control batches and batches without records: those have checks of their own (`record_batch`).
    """
    if header.magic != MAGIC or header.is_control or not 1 <= header.record_count <= MAX_RECORDS:
        raise Unopenable(Reason.BATCH)
    section = _section(batch, header.codec)
    try:
        return _read(section, header)
    except InvalidRecord:
        raise Unopenable(Reason.RECORDS) from None


def _section(batch: memoryview, codec: int) -> bytes:
    data = batch[HEADER_LENGTH:]
    if codec == compression.NONE:
        return bytes(data)
    try:
        return bytes(compression.decompress(codec, data, MAX_DECOMPRESSED))
    except CorruptBatch:
        raise Unopenable(Reason.OUTER_CODEC) from None


def _read(section: bytes, header: BatchHeader) -> RecordSealedBatch:
    origins: dict[tuple[bytes, bytes], Origin] = {}
    sealed: list[SealedRecord] = []
    no_headers: list[Header] = []
    origin, mode, common, extensions, start = None, 0, b"", b"", 0
    unpack = INDEX_AND_LENGTH.unpack_from
    try:
        for _, offset_delta, key, value, raw_headers in read_records(
            section, header.record_count, header.last_offset_delta
        ):
            if value is not None and raw_headers == NO_HEADERS:  # nearly all
                headers, envelope, expected = no_headers, value, registry.RECORD
            else:
                headers, _ = read_headers(raw_headers)
                envelope, expected = _envelope(value, headers)
            head, ciphertext = envelope[:start], envelope[start:]
            if (
                origin is None
                or mode != expected
                or head[:COMMON_LENGTH] != common
                or head[HEADER.size :] != extensions
            ):
                origin = _origin(envelope, expected, origins)
                mode, extensions, start = expected, origin.extensions, origin.ciphertext_at
                head, ciphertext = envelope[:start], envelope[start:]
                common = head[:COMMON_LENGTH]
            index, size = unpack(head, COMMON_LENGTH)
            if size != len(ciphertext) - TAG_LENGTH or not _SMALLEST_PLAINTEXT <= size <= MAX_PLAINTEXT:
                raise Unopenable(Reason.LENGTH)
            if index >= MAX_RECORDS:
                raise Unopenable(Reason.INDEX)
            sealed.append((origin, index, offset_delta, key, head, ciphertext, headers))
    except NotSealed:
        if _any_sealed(section, header):
            raise Unopenable(Reason.MIXED) from None
        raise
    return RecordSealedBatch(header=header, origins=list(origins.values()), records=sealed)


def _envelope(value: bytes | None, headers: list[Header]) -> tuple[bytes, int]:
    """The envelope of a record, and the mode that it must have there. Empty if there is none."""
    own = [content for name, content, _ in headers if name == TOMBSTONE_HEADER]
    if value is not None:
        if own:
            raise Unopenable(Reason.OUT_OF_PLACE)
        return value, registry.RECORD
    if len(own) > 1:
        raise Unopenable(Reason.OUT_OF_PLACE)
    return (own[0] or b"") if own else b"", registry.TOMBSTONE


def _origin(envelope: bytes, mode: int, origins: dict[tuple[bytes, bytes], Origin]) -> Origin:
    """What the envelope shares with others, from `origins` if it is known there. Raises NotSealed or Unopenable."""
    if not envelope.startswith(registry.MAGIC):
        raise NotSealed("a record has no envelope")
    if len(envelope) < HEADER.size:
        raise Unopenable(Reason.LENGTH)
    _, version, found_mode, suite, extension_length, kid, salt, _, size = HEADER.unpack_from(envelope)
    if version != registry.VERSION:
        raise Unopenable(Reason.VERSION)
    _check_mode(found_mode, mode)
    if suite != registry.HKDF_SHA512_AES_256_GCM:
        raise Unopenable(Reason.SUITE)
    ciphertext_at = HEADER.size + extension_length
    if extension_length > MAX_EXTENSIONS:
        raise Unopenable(Reason.LENGTH)
    if ciphertext_at + size + TAG_LENGTH != len(envelope):
        raise Unopenable(Reason.LENGTH)
    extensions = envelope[HEADER.size : ciphertext_at]
    shared = envelope[:COMMON_LENGTH], extensions
    if shared not in origins:
        origins[shared] = Origin(
            mode=mode,
            kid=kid,
            salt=salt,
            extensions=extensions,
            says=decode_extensions(extensions, mode),
            ciphertext_at=ciphertext_at,
        )
    return origins[shared]


def _check_mode(found: int, expected: int) -> None:
    if found == registry.BATCH:
        raise OtherMode
    if found not in {registry.RECORD, registry.TOMBSTONE}:
        raise Unopenable(Reason.MODE)
    if found != expected:
        raise Unopenable(Reason.OUT_OF_PLACE)


def _any_sealed(section: bytes, header: BatchHeader) -> bool:
    for _, _, _, value, headers in read_records(section, header.record_count, header.last_offset_delta):
        envelope, _ = _envelope(value, read_headers(headers)[0])
        if envelope.startswith(registry.MAGIC):
            return True
    return False
