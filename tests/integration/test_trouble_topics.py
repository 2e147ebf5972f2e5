"""Topics that come, go, and come again under the same name."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Self

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from kveil.protocol.kafka.api_table import ApiKey
from tests.support import java
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import RawClient, batch
from tests.support.steady import steady_consumer
from tests.support.waiting import wait_until

SECONDS = 30.0
UNKNOWN_TOPIC_ID = 100


@pytest.fixture(scope="module")
def proxy(kafka: Cluster) -> Iterator[Proxy]:
    with kveil_proxy(kafka.bootstrap, topics=[{"match": "plain-*", "seal": "none"}]) as running:
        yield running


def topic_id(kafka: Cluster, topic: str) -> object:
    with RawClient(kafka.bootstrap) as direct:
        return direct.metadata(topic).topics[0].topic_id


class Persistent:
    """A producer that goes on whatever happens to its records, and counts what arrived."""

    def __init__(self, proxy: Proxy, topic: str) -> None:
        settings = {
            "bootstrap.servers": proxy.bootstrap,
            "message.timeout.ms": 3000,
            "topic.metadata.refresh.interval.ms": 500,
            "topic.metadata.propagation.max.ms": 100,
            "allow.auto.create.topics": False,
            "log_level": 0,
        }
        self._producer = Producer(settings)
        self._topic = topic
        self._stored = threading.Semaphore(0)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        number = 0
        while not self._stopping.wait(0.005):  # the pace of it
            with suppress(KafkaException):  # it knows already that there is no such topic
                self._producer.produce(self._topic, b"%d" % number, on_delivery=self._delivered)
            self._producer.poll(0)
            number += 1
        self._producer.flush(SECONDS)
        self._producer.close()

    def _delivered(self, error: KafkaError | None, _message: object) -> None:
        if error is None:
            self._stored.release()

    def wait_for_more(self, count: int) -> None:
        while self._stored.acquire(blocking=False):
            pass
        for _ in range(count):
            assert self._stored.acquire(timeout=SECONDS)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(SECONDS)


@pytest.mark.parametrize("prefix", ["", "plain-"])
def test_deleted_and_created_again(kafka: Cluster, proxy: Proxy, topic: str, prefix: str):
    """The name is the same and the id is new, while a producer and a consumer run: both go on with the new topic."""
    topic = prefix + topic
    kafka.create_topic(topic)
    before = topic_id(kafka, topic)
    quick = {"topic_metadata_refresh_interval_ms": 500, "allow_auto_create_topics": False}
    with Persistent(proxy, topic) as producer, steady_consumer(proxy.bootstrap, topic, **quick) as consumer:
        producer.wait_for_more(100)
        consumer.wait_for(100)
        kafka.delete_topic(topic)
        kafka.create_topic(topic)
        assert topic_id(kafka, topic) != before
        producer.wait_for_more(100)
        seen = consumer.count
        consumer.wait_for(seen + 100)
    assert not proxy.events("connection_failed")
    assert not [line for line in proxy.events("batch_unopened") if line["topic"] == topic]


def test_deleted_and_created_again_with_java(kafka: Cluster, proxy: Proxy, topic: str):
    """It speaks in topic ids (Fetch and Produce 13 and later), which the proxy must learn anew."""
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic)
    for text in ("first life", "second life"):
        kafka.create_topic(topic)
        java.java_tool(java.CONSOLE_PRODUCER, *reach, stdin=f"{text}\n")
        limits = ("--from-beginning", "--max-messages", "1", "--timeout-ms", "20000")
        assert java.java_tool(java.CONSOLE_CONSUMER, *reach, *limits).stdout == f"{text}\n"
        assert text.encode() not in kafka.stored_bytes(topic)
        kafka.delete_topic(topic)


def test_java_goes_on_with_a_topic_made_anew(kafka: Cluster, proxy: Proxy, topic: str):
    """While it runs, by the new topic's id."""
    kafka.create_topic(topic)
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic)
    quick = ("--command-property", "metadata.max.age.ms=500", "--command-property", "auto.offset.reset=earliest")
    with (
        Persistent(proxy, topic) as producer,
        java.start_java_tool(java.CONSOLE_CONSUMER, *reach, *quick) as consumer,
    ):
        producer.wait_for_more(100)
        list(itertools.islice(consumer.lines.read(SECONDS), 100))
        kafka.delete_topic(topic)
        with suppress(KafkaException):  # the broker makes topics that clients ask for, and one may have been quicker
            kafka.create_topic(topic)
        producer.wait_for_more(10)
        first = int(kafka_values(proxy, topic)[0])
        for line in consumer.lines.read(SECONDS):
            if int(line) >= first + 100:
                break
    assert not [line for line in proxy.events("batch_unopened") if line["topic"] == topic]


def kafka_values(proxy: Proxy, topic: str) -> list[bytes]:
    with RawClient(proxy.bootstrap) as client:
        return [value or b"" for _, value in client.fetch(topic).values]


@pytest.mark.parametrize("prefix", ["", "plain-"])
def test_ids_of_the_topic_before(kafka: Cluster, proxy: Proxy, topic: str, prefix: str):
    """Whoever still uses them is told as without a proxy; the new ones work at once."""
    seen = []
    for bootstrap, name in ((kafka.bootstrap, f"{prefix}{topic}-direct"), (proxy.bootstrap, f"{prefix}{topic}")):
        with RawClient(bootstrap) as client:
            kafka.create_topic(name)
            ids = [client.metadata(name).topics[0].topic_id.bytes]
            kafka.delete_topic(name)
            kafka.create_topic(name)
            wait_until(lambda: client.fetch(name).error == 0)  # noqa: B023 - at once
            ids.append(client.metadata(name).topics[0].topic_id.bytes)
            seen.append([answer for topic_id in ids for answer in by_id(client, topic_id)])
    assert seen[1] == seen[0] == [UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_ID, 0, 0]


def by_id(client: RawClient, topic_id: bytes) -> tuple[int, int]:
    """The errors of a Produce and of a Fetch by id, in the version that began with ids."""
    sent = {"topic_id": topic_id, "partition_data": [{"index": 0, "records": batch([b"by id"])}]}
    values = {"transactional_id": None, "acks": -1, "timeout": 10_000, "topic_data": [sent]}
    produced = client.ask(ApiKey.PRODUCE, 13, values).responses[0].partition_responses[0].error_code
    part = {"fetch_offset": 0, "partition_max_bytes": 1000, "current_leader_epoch": -1, "last_fetched_epoch": -1}
    asked = {"topic_id": topic_id, "partitions": [{"partition": 0, "log_start_offset": -1, **part}]}
    values = {"replica_id": -1, "max_bytes": 1000, "session_epoch": -1, "topics": [asked]}
    return int(produced), int(client.ask(ApiKey.FETCH, 13, values).responses[0].partitions[0].error_code)


def test_settings_of_the_topic_before_do_not_count(kafka: Cluster, proxy: Proxy, topic: str):
    """Compacted in its second life, made past the proxy: it is held to that, and takes no records without keys."""
    errors: list[KafkaError | None] = []
    for policy in ("delete", "compact"):
        kafka.create_topic(topic, config={"cleanup.policy": policy})
        with Producer({"bootstrap.servers": proxy.bootstrap, "log_level": 0}) as producer:
            for value in (b"one", b"two"):
                producer.produce(topic, value, on_delivery=lambda error, _: errors.append(error))
            assert producer.flush(SECONDS) == 0
        if policy == "compact":
            assert kafka.stored_bytes(topic) == b""
        kafka.delete_topic(topic)
    assert errors[:2] == [None, None]
    assert {error.code() for error in errors[2:]} == {KafkaError.INVALID_RECORD}


def test_unknown_topic(kafka: Cluster, proxy: Proxy, topic: str):
    settings = {"bootstrap.servers": proxy.bootstrap, "allow.auto.create.topics": False}
    errors: list[KafkaError | None] = []
    with Producer({**settings, "topic.metadata.propagation.max.ms": 100}) as producer:
        producer.produce(topic, b"nowhere", on_delivery=lambda error, _: errors.append(error))
        producer.flush(SECONDS)
    assert {error.code() for error in errors} <= {KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART}
    assert errors
    consumer = Consumer({"bootstrap.servers": proxy.bootstrap, "group.id": topic, "allow.auto.create.topics": False})
    try:
        consumer.subscribe([topic])
        message = consumer.poll(SECONDS)
        assert message.error().code() in {KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART}
    finally:
        consumer.close()
    with RawClient(kafka.bootstrap) as direct:
        assert int(direct.metadata(topic).topics[0].error_code) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_created_by_its_first_use(kafka: Cluster, proxy: Proxy, topic: str):
    """The broker makes it when a client asks for it; its settings are read and its records sealed like any other's."""
    settings = {"bootstrap.servers": proxy.bootstrap}
    errors: list[KafkaError | None] = []
    with Producer(settings) as producer:
        producer.produce(topic, b"auto-created marker", on_delivery=lambda error, _: errors.append(error))
        assert producer.flush(SECONDS) == 0
    assert errors == [None]
    assert not kafka.contains(b"auto-created marker")
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", f"{topic}-java")
    java.java_tool(java.CONSOLE_PRODUCER, *reach, stdin="auto-created by java\n")
    assert not kafka.contains(b"auto-created by java")
    limits = ("--from-beginning", "--max-messages", "1", "--timeout-ms", "20000")
    assert java.java_tool(java.CONSOLE_CONSUMER, *reach, *limits).stdout == "auto-created by java\n"
