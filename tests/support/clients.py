"""Records in and out through librdkafka and aiokafka, each with all that a record has, to compare exactly.

librdkafka_produce(proxy.bootstrap, "t", [Record(value=b"one"), Record(key=b"k", partition=1)])
assert librdkafka_read(proxy.bootstrap, "t") == librdkafka_read(cluster.bootstrap, "other")
"""

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient

SECONDS = 60.0
Settings = str | Mapping[str, Any]
"""A bootstrap address, or a client's whole settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record as sent, or as read with its offset."""

    value: bytes | None = None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    partition: int = 0
    timestamp: int | None = None
    offset: int | None = None


def numbered(records: Iterable[Record]) -> list[Record]:
    """The records as they must be read from a topic that was empty before: by partition, with offsets from 0 on."""
    counts: dict[int, int] = {}
    found = []
    for record in records:
        offset = counts[record.partition] = counts.get(record.partition, -1) + 1
        found.append(replace(record, offset=offset))
    return by_partition(found)


def by_partition(records: Iterable[Record]) -> list[Record]:
    """The records partition after partition, in each as they came."""
    return sorted(records, key=lambda record: record.partition)


def untimed(records: Iterable[Record]) -> list[Record]:
    """The records without timestamps, for those that a client stamped by itself."""
    return [replace(record, timestamp=None) for record in records]


# librdkafka ----------------------------------------------------------------------------------------------------------


def librdkafka(settings: Settings, **more: Any) -> dict[str, Any]:
    """A client's settings; underscores in keywords stand for dots."""
    base = {"bootstrap.servers": settings} if isinstance(settings, str) else dict(settings)
    return base | {name.replace("_", "."): value for name, value in more.items()}


class Sender:
    """A librdkafka producer that remembers what became of each record."""

    def __init__(self, settings: Settings, topic: str, **more: Any) -> None:
        self._topic = topic
        self.delivered = 0
        self.errors: list[KafkaError] = []
        self.producer = Producer(librdkafka(settings, **more))

    def _report(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.delivered += 1
        else:
            self.errors.append(error)

    def send(self, record: Record) -> None:
        """Queue one record, and wait where the queue is full."""
        stamp = {} if record.timestamp is None else {"timestamp": record.timestamp}
        while True:
            try:
                self.producer.produce(
                    self._topic,
                    record.value,
                    record.key,
                    record.partition,
                    headers=list(record.headers),
                    on_delivery=self._report,
                    **stamp,
                )
            except BufferError:
                self.producer.poll(0.05)
            else:
                return

    def flush(self) -> None:
        """Wait until every record has its answer."""
        assert self.producer.flush(SECONDS) == 0, "records without an answer"


def librdkafka_produce(settings: Settings, topic: str, records: Iterable[Record], **more: Any) -> None:
    """Produce records, all of which must be taken."""
    sender = Sender(settings, topic, **more)
    for record in records:
        sender.send(record)
    sender.flush()
    assert not sender.errors, f"{len(sender.errors)} records failed: {sender.errors[0]}"


def librdkafka_refusal(settings: Settings, topic: str, **more: Any) -> KafkaError:
    """Produce one record that must be refused, and give the error."""
    sender = Sender(settings, topic, **more)
    sender.send(Record(value=b"refused"))
    sender.flush()
    (error,) = sender.errors
    return error


def librdkafka_login_error(settings: Settings) -> int:
    """Connect, which must fail, and give the code of the error that the client tells."""
    errors: list[KafkaError] = []
    admin = AdminClient(librdkafka(settings) | {"log_level": 0} | {"error_cb": errors.append})
    deadline = time.monotonic() + SECONDS
    while not errors:
        assert time.monotonic() < deadline
        admin.poll(0.1)
    code: int = errors[0].code()
    return code


def librdkafka_read(settings: Settings, topic: str, **more: Any) -> list[Record]:
    """Read a topic from its beginning to its end. An error of a partition raises."""
    return [as_record(message) for message in librdkafka_messages(settings, topic, **more)]


def as_record(message: Message) -> Record:
    """What librdkafka gives, as a record."""
    return Record(
        value=message.value(),
        key=message.key(),
        headers=tuple(message.headers() or ()),
        partition=message.partition(),
        timestamp=message.timestamp()[1],
        offset=message.offset(),
    )


def librdkafka_messages(settings: Settings, topic: str, **more: Any) -> list[Message]:
    """Read a topic to its end, partition after partition."""
    usual = {
        "group.id": uuid.uuid4().hex,
        "enable.partition.eof": True,
        "enable.auto.commit": False,
        "fetch.wait.max.ms": 50,
    }
    consumer = Consumer(librdkafka(settings) | usual | {key.replace("_", "."): value for key, value in more.items()})
    try:
        partitions = consumer.list_topics(topic, timeout=SECONDS).topics[topic].partitions
        consumer.assign([Place(topic, index, OFFSET_BEGINNING) for index in partitions])
        found: list[Message] = []
        open_partitions = set(partitions)
        deadline = time.monotonic() + SECONDS
        while open_partitions:
            messages = consumer.consume(10_000, 0.1)
            assert time.monotonic() < deadline, f"no end of {open_partitions} after {len(found)} records"
            for message in messages:
                error = message.error()
                if error is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    open_partitions.discard(message.partition())
                else:
                    raise KafkaException(error)
        return sorted(found, key=Message.partition)
    finally:
        consumer.close()


# aiokafka ------------------------------------------------------------------------------------------------------------


def aiokafka(settings: Settings) -> dict[str, Any]:
    """A client's settings."""
    return {"bootstrap_servers": settings} if isinstance(settings, str) else dict(settings)


async def aiokafka_produce(settings: Settings, topic: str, records: Sequence[Record], **more: Any) -> None:
    """Produce records, all of which must be taken."""
    async with AIOKafkaProducer(**aiokafka(settings), **more) as producer:
        answers = [
            await producer.send(
                topic,
                record.value,
                record.key,
                record.partition,
                timestamp_ms=record.timestamp,
                headers=list(record.headers),
            )
            for record in records
        ]
        await producer.flush()
        for answer in answers:
            await answer


async def aiokafka_read(settings: Settings, topic: str, **more: Any) -> list[Record]:
    """Read a topic from its beginning to its end."""
    async with AIOKafkaConsumer(**aiokafka(settings), **more) as consumer:
        await consumer._client.set_topics([topic])
        places = [TopicPartition(topic, index) for index in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        found = []
        deadline = time.monotonic() + SECONDS
        while any([await consumer.position(place) < ends[place] for place in places]):
            assert time.monotonic() < deadline, f"no end of {ends} after {len(found)} records"
            for messages in (await consumer.getmany(timeout_ms=500)).values():
                found += [
                    Record(
                        value=message.value,
                        key=message.key,
                        headers=tuple(message.headers),
                        partition=message.partition,
                        timestamp=message.timestamp,
                        offset=message.offset,
                    )
                    for message in messages
                ]
        return by_partition(found)
