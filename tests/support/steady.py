"""A producer and a consumer that run while something happens to those they talk to.

with steady_producer(proxy.bootstrap, topic) as producer, steady_consumer(proxy.bootstrap, topic) as consumer:
    producer.wait_for_more(1000)
    ...trouble...
    producer.wait_for_more(1000)
    producer.finish()
    consumer.wait_for(producer.sent)
"""

import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

SECONDS = 60.0
_PROMPT = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 500, "log_level": 0}
# A consumer is told of these and goes on by itself; the last where its topic is gone for a while.
_HARMLESS = {
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._RESOLVE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}


class _Worker:
    """A thread that works until told to stop, and a condition for what it has done."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=type(self).__name__)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.work()
        except BaseException as error:
            self.failure = error
            raise
        finally:
            with self._changed:
                self._changed.notify_all()

    def work(self) -> None:
        raise NotImplementedError

    def _wait(self, is_done: Any, what: str, timeout: float) -> None:
        with self._changed:
            done = self._changed.wait_for(lambda: is_done() or not self._thread.is_alive(), timeout)
        assert self.failure is None, self.failure
        assert done, f"not in time: {what}"
        assert is_done(), f"ended before {what}"

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(SECONDS)


class SteadyProducer(_Worker):
    """Sends numbered values to partition 0, 1, 2... in turn; all must be acknowledged."""

    def __init__(self, settings: Mapping[str, Any], topic: str, partitions: int, pause_seconds: float) -> None:
        self._producer = Producer({**_PROMPT, "linger.ms": 2, "message.timeout.ms": 60_000, **settings})
        self._topic, self._partitions, self._pause = topic, partitions, pause_seconds
        self.sent = 0
        self.acknowledged: list[int] = []
        self.errors: list[KafkaError] = []
        super().__init__()

    def work(self) -> None:
        while not self._stopping.is_set():
            value, partition = str(self.sent).encode(), self.sent % self._partitions
            try:
                self._producer.produce(self._topic, value, partition=partition, on_delivery=self._delivered)
                self.sent += 1
            except BufferError:
                self._producer.poll(0.1)
            self._producer.poll(0)
            time.sleep(self._pause)  # the pace of it, not a wait for anything
        assert self._producer.flush(SECONDS) == 0
        self._producer.close()

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        with self._changed:
            if error:
                self.errors.append(error)
            else:
                self.acknowledged.append(int(message.value() or b"-1"))
            self._changed.notify_all()

    def wait_for_more(self, count: int, timeout: float = SECONDS) -> None:
        """Wait until so many more are acknowledged, of those that are sent from now on."""
        target = max(self.sent, len(self.acknowledged)) + count
        self._wait(lambda: len(self.acknowledged) >= target, f"{count} more acknowledged", timeout)

    def finish(self) -> int:
        """Send no more, wait for all acknowledgements, and return how many were sent."""
        self.stop()
        assert self.failure is None, self.failure
        assert not self.errors, self.errors[:3]
        assert sorted(self.acknowledged) == list(range(self.sent))
        return self.sent


class SteadyConsumer(_Worker):
    """Reads all partitions from the beginning, in a group."""

    def __init__(self, settings: Mapping[str, Any], topic: str) -> None:
        group = {"group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 100}
        self._consumer = Consumer({**_PROMPT, **group, **settings})
        self._consumer.subscribe([topic])
        self.values: defaultdict[int, list[int]] = defaultdict(list)
        super().__init__()

    def work(self) -> None:
        try:
            while not self._stopping.is_set():
                for message in self._consumer.consume(500, 0.1):
                    self._take(message)
        finally:
            self._consumer.close()

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            assert error.retriable() or error.code() in _HARMLESS, error
            return
        with self._changed:
            self.values[message.partition() or 0].append(int(message.value() or b"-1"))
            self._changed.notify_all()

    @property
    def count(self) -> int:
        """How many have been read."""
        return sum(map(len, self.values.values()))

    def wait_for(self, count: int, timeout: float = SECONDS) -> None:
        """Wait until so many have been read."""
        self._wait(lambda: self.count >= count, f"{count} read", timeout)


@contextmanager
def steady_producer(
    bootstrap: str, topic: str, *, partitions: int = 1, pause_seconds: float = 0.001, **settings: Any
) -> Iterator[SteadyProducer]:
    """An idempotent producer for the length of a `with` block."""
    given = {name.replace("_", "."): value for name, value in settings.items()}
    idempotent = {"bootstrap.servers": bootstrap, "enable.idempotence": True}
    producer = SteadyProducer({**idempotent, **given}, topic, partitions, pause_seconds)
    try:
        yield producer
    finally:
        producer.stop()


@contextmanager
def steady_consumer(bootstrap: str, topic: str, **settings: Any) -> Iterator[SteadyConsumer]:
    """A consumer for the length of a `with` block."""
    given = {name.replace("_", "."): value for name, value in settings.items()}
    consumer = SteadyConsumer({"bootstrap.servers": bootstrap, **given}, topic)
    try:
        yield consumer
    finally:
        consumer.stop()


def read_all(bootstrap: str, topic: str, partitions: int = 1, **settings: Any) -> dict[int, list[int]]:
    """Read each partition from its beginning to its end as it is now."""
    given = {name.replace("_", "."): value for name, value in settings.items()}
    consumer = Consumer({**_PROMPT, "bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, **given})
    values: dict[int, list[int]] = {each: [] for each in range(partitions)}
    try:
        ends = {
            each: consumer.get_watermark_offsets(TopicPartition(topic, each), timeout=SECONDS)[1] for each in values
        }
        consumer.assign([TopicPartition(topic, each, 0) for each in values if ends[each]])
        left = {each for each in values if ends[each]}
        deadline = time.monotonic() + SECONDS
        while left:
            assert time.monotonic() < deadline, f"{left} not read to the end"
            for message in consumer.consume(1000, 0.5):
                assert message.error() is None, message.error()
                values[message.partition()].append(int(message.value()))
                if message.offset() == ends[message.partition()] - 1:
                    left.discard(message.partition())
    finally:
        consumer.close()
    return values


def check_exact(values: Mapping[int, list[int]], sent: int) -> None:
    """0 lost, 0 duplicated, the order of each partition kept."""
    for partition, got in values.items():
        assert got == list(range(partition, sent, len(values))), f"partition {partition}: {_difference(got, sent)}"
    assert sum(map(len, values.values())) == sent


def _difference(got: list[int], sent: int) -> str:
    repeated = len(got) - len(set(got))
    turns = sum(later < earlier for earlier, later in pairwise(got))
    return f"{len(got)} of {sent} values, {repeated} repeated, {turns} out of order"
