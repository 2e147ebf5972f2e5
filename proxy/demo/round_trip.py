"""What stock Kafka clients write and read: through the proxy, and past it."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from kveil.proxy.demo.errors import DemoFailed

TOPIC: Final = "patients"
MORE: Final = 1_000
_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.2
_LINGER_MS: Final = 500  # until a flush; on a busy machine records for one batch stay together
_ERRORS_ONLY: Final = 3

Headers = tuple[tuple[str, bytes], ...]
Place = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record as a client sees it."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int = 0
    partition: int = -1
    offset: int = -1

    @property
    def place(self) -> Place:
        """Partition and offset."""
        return self.partition, self.offset

    @property
    def pieces(self) -> list[bytes]:
        """All bytes of the application's in it."""
        return [piece for piece in (self.key, self.value, *(value for _, value in self.headers)) if piece]


def shown_records() -> list[Record]:
    """A few records, to be looked at."""
    rows = (
        ("patient-1042", {"name": "Ada Marsh", "diagnosis": "hypertension"}, "clinic-north"),
        ("patient-2077", {"name": "Tom Okoro", "diagnosis": "migraine"}, "clinic-south"),
        ("patient-1042", {"name": "Ada Marsh", "prescribed": "ramipril"}, "clinic-north"),
    )
    return [
        _record(position, key, value, (("clinic", clinic.encode()),))
        for position, (key, value, clinic) in enumerate(rows)
    ]


def more_records() -> list[Record]:
    """Many records, to be counted."""
    return [
        _record(position, f"patient-{position:04}", {"pulse": 50 + position % 70, "reading": f"reading-{position:06}"})
        for position in range(MORE)
    ]


def _record(position: int, key: str, value: Mapping[str, object], headers: Headers = ()) -> Record:
    now = time.time_ns() // 1_000_000
    return Record(key=key.encode(), value=json.dumps(value).encode(), headers=headers, timestamp_ms=now + position)


def write(bootstrap: str, records: Sequence[Record], **settings: Any) -> list[Record]:
    """Produce the records and return them with the places that they got.

    :raises DemoFailed: one was not acknowledged.
    """
    from confluent_kafka import Producer

    defaults = {"log_level": _ERRORS_ONLY, "linger.ms": _LINGER_MS}
    producer = Producer({"bootstrap.servers": bootstrap, **defaults, **settings})
    _await_topic(producer)
    written: list[Record] = []
    failures: list[str] = []

    def note(record: Record, error: Any, message: Any) -> None:
        if error is not None:
            failures.append(str(error))
        else:
            written.append(replace(record, partition=message.partition(), offset=message.offset()))

    for record in records:
        producer.produce(
            TOPIC,
            key=record.key,
            value=record.value,
            headers=list(record.headers),
            timestamp=record.timestamp_ms,
            on_delivery=partial(note, record),
        )
    left = producer.flush(_SECONDS)
    if left or failures:
        raise DemoFailed(f"{left + len(failures)} records were not acknowledged: {failures[:1] or 'no answer in time'}")
    return written


def _await_topic(producer: Any) -> None:
    """Return when the topic, which the first question makes, has leaders: what waits for them goes out in pieces.

    :raises DemoFailed: it has none in time.
    """
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        topic = producer.list_topics(TOPIC, timeout=_SECONDS).topics[TOPIC]
        if topic.partitions and all(partition.leader >= 0 for partition in topic.partitions.values()):
            return
        time.sleep(_POLL_SECONDS)
    raise DemoFailed(f"topic {TOPIC} got no leader in {_SECONDS:.0f} s")


def read(bootstrap: str, count: int) -> list[Record]:
    """Consume `count` records as a member of a group, as an application does; fewer if no more come in time."""
    from confluent_kafka import Consumer

    consumer = Consumer(_consumer_settings(bootstrap, "kveil-demo"))
    consumer.subscribe([TOPIC])
    try:
        found: list[Record] = []
        for message in _messages(consumer):
            found.append(_as_record(message))
            if len(found) >= count:
                break
        return found
    finally:
        consumer.close()


def read_stored(bootstrap: str) -> list[Record]:
    """Consume all that the topic holds, past the proxy."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    consumer = Consumer(_consumer_settings(bootstrap, "kveil-demo-direct") | {"enable.partition.eof": True})
    try:
        partitions = list(consumer.list_topics(TOPIC, timeout=_SECONDS).topics[TOPIC].partitions)
        consumer.assign([TopicPartition(TOPIC, partition, OFFSET_BEGINNING) for partition in partitions])
        return [_as_record(message) for message in _messages(consumer, ends=len(partitions))]
    finally:
        consumer.close()


def _consumer_settings(bootstrap: str, group: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "fetch.wait.max.ms": 50,
        "log_level": _ERRORS_ONLY,
    }


def _messages(consumer: Any, ends: int = -1) -> Iterator[Any]:
    """Messages until so many partitions have ended, or the time is up."""
    from confluent_kafka import KafkaError

    deadline = time.monotonic() + _SECONDS
    while ends and time.monotonic() < deadline:
        message = consumer.poll(_POLL_SECONDS)
        if message is None:
            continue
        error = message.error()
        if error is None:
            yield message
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            ends -= 1
        elif not error.retriable():
            raise DemoFailed(f"the consumer was told: {error}")


def _as_record(message: Any) -> Record:
    return Record(
        key=message.key(),
        value=message.value(),
        headers=tuple(message.headers() or ()),
        timestamp_ms=message.timestamp()[1],
        partition=message.partition(),
        offset=message.offset(),
    )
