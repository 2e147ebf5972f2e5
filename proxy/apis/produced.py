"""One produced batch: checked as a broker would, sealed, and no larger than the topic takes.

Sealing adds a little, and some clients leave no room: Java's largest request is 12 bytes below the default limit of a
batch. A batch that was within the limit must be within it once sealed, wherever compressing can make it so. Else the
answer is MESSAGE_TOO_LARGE before anything is sent, with the remedy.
"""

from kveil.protocol.envelope.batch import StubCodec, seal
from kveil.protocol.envelope.position import Slot
from kveil.protocol.envelope.record import seal_records
from kveil.protocol.envelope.record_keyed import seal_keyed_records
from kveil.protocol.kafka import compression
from kveil.protocol.kafka.errors import BatchRefused, BatchTooLarge
from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.record_batch import CODEC_MASK, HEADER_LENGTH, BatchHeader, check_produced
from kveil.proxy.apis.placing import Placing
from kveil.proxy.apis.sealing import Sealing
from kveil.proxy.apis.timestamps import check_timestamps
from kveil.proxy.config import Mode
from kveil.proxy.config import StubCodec as StubCodecChoice
from kveil.proxy.context import Connection
from kveil.proxy.errors import ErrorCode, Refused
from kveil.proxy.topics import DEFAULT_MAX_MESSAGE_BYTES

ZSTD_MIN_PRODUCE_VERSION = 7
"""Before it brokers refuse zstd (KIP-110)."""


def seal_batch(
    batch: memoryview,
    sealing: Sealing,
    *,
    partition: int,
    produce_version: int,
    connection: Connection,
    placing: Placing | None = None,
) -> list[Buffer]:
    """Return the sealed batch. `batch` is used up. `placing` is there where batches carry stream positions.

    :raises Refused: it can't be sealed, and nothing of it may leave.
    """
    try:
        header = check_produced(batch)
        if header.codec == compression.ZSTD and produce_version < ZSTD_MIN_PRODUCE_VERSION:
            reason = f"the batch is refused: version {produce_version} of Produce has no zstd"
            raise Refused(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, reason)
        if sealing.settings is not None and sealing.mode is Mode.BATCH:
            check_timestamps(batch, header, sealing.settings, int(connection.shared.unix_time() * 1000))
        connection.shared.sealing_keys(sealing.rule.key.provider).note_use(sealing.key, len(batch))
        size = len(batch)
        known = None if placing is None else placing.again(batch, header)
        if known is not None:
            return known
        slot = None if placing is None else placing.next()
        pieces = _seal_to_fit(batch, header, sealing, slot, partition=partition, produce_version=produce_version)
        if placing is not None and slot is not None:
            placing.sealed(slot, pieces)
        connection.shared.metrics.count_sealed(sealing.topic, header.record_count, size)
        return pieces
    except BatchRefused as error:
        raise Refused(ErrorCode(error.code), f"the batch is refused: {error}") from error


def _seal_to_fit(
    batch: memoryview,
    header: BatchHeader,
    sealing: Sealing,
    slot: Slot | None,
    *,
    partition: int,
    produce_version: int,
) -> list[Buffer]:
    """Return the sealed batch. `batch` is used up.

    :raises BatchTooLarge: it can't be made to fit.
    :raises BatchRefused: its records can't be read.
    """
    rule, settings = sealing.rule, sealing.settings
    is_zstd_spoken = produce_version >= ZSTD_MIN_PRODUCE_VERSION and rule.stub_codec is StubCodecChoice.AUTO
    known_limit = settings.max_message_bytes if settings else None
    limit = known_limit or DEFAULT_MAX_MESSAGE_BYTES
    pieces = _seal(batch, header, sealing, slot, partition, is_zstd_spoken=is_zstd_spoken)
    size = _size(pieces)
    if size <= limit:
        return pieces
    if len(batch) <= limit and rule.compress_to_fit:
        digest = None if slot is None else slot.digest
        smaller = _seal_smaller(batch, header, sealing, slot, partition, is_zstd_spoken=is_zstd_spoken)
        if smaller is not None and _size(smaller) < size:
            pieces, size = smaller, _size(smaller)
        elif slot is not None:
            slot.digest = digest
    if known_limit is None or size <= limit:
        return pieces
    raise BatchTooLarge(_too_large(len(batch), size, limit, sealing))


def _seal(
    batch: memoryview, header: BatchHeader, sealing: Sealing, slot: Slot | None, partition: int, *, is_zstd_spoken: bool
) -> list[Buffer]:
    rule, settings = sealing.rule, sealing.settings
    if sealing.mode is Mode.RECORD:
        return _seal_records(batch, header, sealing, slot, partition, codec=header.codec)
    # What a topic stores uncompressed is uncompressed by the broker: it has to fit as that.
    is_stored_as_sent = settings is None or settings.compression_type != "uncompressed"
    return seal(
        batch,
        header,
        key=sealing.key,
        partition=partition,
        stub_codec=StubCodec.AUTO if is_zstd_spoken and is_stored_as_sent else StubCodec.NONE,
        compress=compression.ZSTD_LEVEL if rule.compress else None,
        origin_partition=rule.origin_partition,
        slot=slot,
    )


def _seal_smaller(
    batch: memoryview, header: BatchHeader, sealing: Sealing, slot: Slot | None, partition: int, *, is_zstd_spoken: bool
) -> list[Buffer] | None:
    """Return the batch sealed with as much compression as can be had, None where there is none to be had.

    A client's own compression is replaced with a stronger one: its consumers get the same records, uncompressed.
    """
    if sealing.mode is Mode.RECORD:
        if not is_zstd_spoken:
            return None
        return _seal_records(batch, header, sealing, slot, partition, codec=compression.ZSTD)
    if header.codec:
        section = compression.decompress(header.codec, batch[HEADER_LENGTH:], compression.MAX_DECOMPRESSED)
        batch = memoryview(bytearray(HEADER_LENGTH) + section)
        header = header._replace(attributes=header.attributes & ~CODEC_MASK)
    return seal(
        batch,
        header,
        key=sealing.key,
        partition=partition,
        stub_codec=StubCodec.AUTO if is_zstd_spoken else StubCodec.NONE,
        compress=compression.ZSTD_BEST_LEVEL,
        origin_partition=sealing.rule.origin_partition,
        slot=slot,
    )


def _seal_records(
    batch: memoryview, header: BatchHeader, sealing: Sealing, slot: Slot | None, partition: int, *, codec: int
) -> list[Buffer]:
    if sealing.key_of is not None:
        return seal_keyed_records(
            batch,
            header,
            key_of=sealing.key_of,
            hiding=sealing.hiding,
            partition=partition,
            codec=codec,
            origin_partition=sealing.rule.origin_partition,
        )
    return seal_records(
        batch,
        header,
        key=sealing.key,
        hiding=sealing.hiding,
        partition=partition,
        codec=codec,
        origin_partition=sealing.rule.origin_partition,
        slot=slot,
    )


def _size(pieces: list[Buffer]) -> int:
    return sum(map(len, pieces))


def _too_large(plain: int, sealed: int, limit: int, sealing: Sealing) -> str:
    if plain > limit:
        return f"{plain} bytes are over the topic's max.message.bytes of {limit}"
    tried = "compressed and " if sealing.rule.compress_to_fit else ""
    return (
        f"its {plain} bytes are {sealed} when {tried}sealed, over the topic's max.message.bytes of {limit}: raise that "
        f"(`kveil prepare {sealing.topic}`), or lower the producer's batch.size or max.request.size"
    )
