"""A topic of the proxy's own, compacted and with one partition: where it is, its ends, its records, new ones."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from kveil.protocol.kafka import compression
from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.errors import BatchRefused
from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.record_batch import HEADER_LENGTH, MAGIC, read_header, split_batches
from kveil.protocol.kafka.records import read_records, write_record
from kveil.proxy.errors import ErrorCode, QuestionFailed
from kveil.proxy.net.own_batches import own_batch
from kveil.proxy.net.own_client import OwnClient
from kveil.proxy.net.topic_admin import describe_topics
from kveil.proxy.topics import TopicSettings

LONG_POLL_SECONDS: Final = 5.0
EARLIEST: Final = -2
LATEST: Final = -1
# Of one answer: some 20,000 entries, which take about 0.2 s.
_FETCH_BYTES: Final = 4 * 1024 * 1024
# Of one record set, with entries of some 200 bytes: well below the default limit of a batch.
RECORDS_AT_ONCE: Final = 2_000
_WRITE_MS: Final = 10_000
# The last versions that name topics instead of giving their ids.
_METADATA: Final = 9
_FETCH: Final = 12
_PRODUCE: Final = 12
_REPLICAS: Final = 3
_RIGHTS: Final = (
    ". The login needs the ACLs Describe, Read and Write on the topic {}; whoever makes it needs Create too, or "
    "somebody makes it beforehand, with one partition and cleanup.policy=compact"
)

KeyValue = tuple[bytes | None, bytes | None]


class Fetched(NamedTuple):
    """An answer to a Fetch."""

    records: Sequence[tuple[int, bytes | None, bytes | None]]
    """Offset, key, value."""
    position: int
    """Where to read on."""
    end: int
    """The high watermark."""


class NotThereYet(QuestionFailed):
    """The topic was made just now."""


class OffsetOutOfRange(QuestionFailed):
    """The topic begins later, or ends before."""


class OwnTopic:
    """One such topic, on connections that whoever asks has. Where nobody here is to make it, `absent` says so."""

    def __init__(self, name: str, *, absent: str | None = None) -> None:
        self.name = name
        self._absent = absent

    async def find_leader(self, client: OwnClient) -> int:
        """Return the node that leads the topic, which is made if it isn't there.

        :raises QuestionFailed: it can't be had, or isn't as it must be.
        """
        values = {"topics": [{"name": self.name}], "allow_auto_topic_creation": False}
        answer = await client.ask(ApiKey.METADATA, values, most=_METADATA)
        topic = _only(answer.topics, "Metadata")
        if topic.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            await self._create(client, len(answer.brokers))
            raise NotThereYet("the topic was made just now")
        if topic.error_code == ErrorCode.LEADER_NOT_AVAILABLE:
            raise NotThereYet("the topic has no leader now")
        self._check(topic.error_code, "Metadata")
        if len(topic.partitions) != 1:
            raise QuestionFailed(f"it must have one partition, and has {len(topic.partitions)}")
        (partition,) = topic.partitions
        self._check(partition.error_code, "Metadata")
        await self._check_settings(client)
        return int(partition.leader_id)

    def _check(self, error_code: Any, api: str) -> None:
        """Raises QuestionFailed, with the way out where rights are missing."""
        if not error_code:
            return
        text = f"the broker answered {api} with {error_code.name}"
        is_denied = "authorization_failed" in error_code.name.lower()
        raise QuestionFailed(text + _RIGHTS.format(self.name) if is_denied else text)

    async def _create(self, client: OwnClient, brokers: int) -> None:
        if self._absent is not None:
            raise QuestionFailed(self._absent)
        replicas = min(brokers, _REPLICAS)
        configs = {"cleanup.policy": "compact", "min.insync.replicas": "2" if replicas == _REPLICAS else "1"}
        topic = {
            "name": self.name,
            "num_partitions": 1,
            "replication_factor": replicas,
            "configs": [{"name": name, "value": value} for name, value in configs.items()],
        }
        answer = await client.ask(
            ApiKey.CREATE_TOPICS, {"topics": [topic], "timeout": _WRITE_MS, "validate_only": False}
        )
        result = _only(answer.topics, "CreateTopics")
        if result.error_code != ErrorCode.TOPIC_ALREADY_EXISTS:  # another proxy was faster
            self._check(result.error_code, "CreateTopics")

    async def _check_settings(self, client: OwnClient) -> None:
        """Any other policy than compaction alone loses keys, and with them data."""
        settings = (await describe_topics(client, [self.name]))[self.name]
        if not isinstance(settings, TopicSettings):
            raise QuestionFailed(f"its settings can't be read: {settings}")
        if not settings.unreadable and settings.cleanup_policy != {"compact"}:
            raise QuestionFailed("its cleanup.policy must be compact, or keys would be lost: set it, and wait")

    async def find_offset(self, client: OwnClient, which: int) -> int:
        """Return the first offset of the topic (EARLIEST), or the one behind its last record (LATEST)."""
        partition = {"partition_index": 0, "current_leader_epoch": -1, "timestamp": which}
        topics = [{"name": self.name, "partitions": [partition]}]
        values = {"replica_id": -1, "isolation_level": 0, "topics": topics}
        answer = await client.ask(ApiKey.LIST_OFFSETS, values)
        found = _only(_only(answer.topics, "ListOffsets").partitions, "ListOffsets")
        self._check(found.error_code, "ListOffsets")
        return int(found.offset)

    async def fetch(self, client: OwnClient, position: int, *, wait_seconds: float = LONG_POLL_SECONDS) -> Fetched:
        """Return what stands at the position, as soon as something does, or nothing after a while."""
        partition = {
            "partition": 0,
            "fetch_offset": position,
            "partition_max_bytes": _FETCH_BYTES,
            "current_leader_epoch": -1,
            "last_fetched_epoch": -1,
            "log_start_offset": -1,
        }
        values = {
            "replica_id": -1,
            "max_wait": round(wait_seconds * 1000),
            "min_bytes": 1,
            "max_bytes": _FETCH_BYTES,
            "isolation_level": 0,
            "session_id": 0,
            "session_epoch": -1,
            "topics": [{"topic": self.name, "partitions": [partition]}],
        }
        answer = await client.ask(ApiKey.FETCH, values, most=_FETCH)
        self._check(answer.error_code, "Fetch")
        found = _only(_only(answer.responses, "Fetch").partitions, "Fetch")
        if found.error_code == ErrorCode.OFFSET_OUT_OF_RANGE:
            raise OffsetOutOfRange("it doesn't have what was to be read next")
        self._check(found.error_code, "Fetch")
        try:
            records = [record for record in records_of(found.records or b"") if record[0] >= position]
            behind = _behind(found.records or b"", position)
        except BatchRefused as error:
            raise QuestionFailed(f"its records can't be read: {error}") from error
        return Fetched(records, behind, int(found.high_watermark))

    async def produce(self, client: OwnClient, records: Sequence[KeyValue], timestamp_ms: int) -> int:
        """Write records, and return the offset behind them, once all replicas that are in sync have them."""
        partition = {"index": 0, "records": plain_batch(records, timestamp_ms)}
        values = {"acks": -1, "timeout": _WRITE_MS, "topic_data": [{"name": self.name, "partition_data": [partition]}]}
        answer = await client.ask(ApiKey.PRODUCE, values, most=_PRODUCE)
        found = _only(_only(answer.responses, "Produce").partition_responses, "Produce")
        self._check(found.error_code, "Produce")
        return int(found.base_offset) + len(records)


def records_of(data: Buffer) -> Iterator[tuple[int, bytes | None, bytes | None]]:
    """Yield offset, key and value of each record in fetched data. Raises BatchRefused."""
    for view in split_batches(data):
        header = read_header(view)
        if header.magic != MAGIC or header.is_control or not header.record_count:
            continue
        section = bytes(compression.decompress(header.codec, view[HEADER_LENGTH:], compression.MAX_DECOMPRESSED))
        for _, delta, key, value, _ in read_records(section, header.record_count, header.last_offset_delta):
            yield header.base_offset + delta, key, value


def _behind(data: bytes, position: int) -> int:
    return max((read_header(view).next_offset for view in split_batches(data)), default=position)


def plain_batch(records: Sequence[KeyValue], timestamp_ms: int) -> bytes:
    """Return a batch of records without headers, as a producer sends it that isn't idempotent."""
    written = [b"".join(write_record(0, at, key, value)) for at, (key, value) in enumerate(records)]
    return own_batch(written, len(written), timestamp_ms)


def _only(items: Sequence[Any], api: str) -> Any:
    """The one item of an answer about one topic and one partition."""
    if len(items) != 1:
        raise QuestionFailed(f"the broker's answer to {api} leaves it out")
    return items[0]
