"""`kveil producer` and `kveil consumer`: one direction each, as two hosts would run them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, ShareConsumer

from tests.support import java
from tests.support.clients import Record, librdkafka, librdkafka_produce, librdkafka_read, librdkafka_refusal, numbered
from tests.support.kafka import Cluster
from tests.support.ports import reserved_port_range
from tests.support.processes import Child
from tests.support.proxy import KVEIL, kveil

SECONDS = 60.0
BROKER_PORTS = 100
"""What the commands hold when no configuration says otherwise."""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    done = kveil("keys", "init", "--keys", str(path))
    assert done.returncode == 0, done.stderr
    return path


@contextmanager
def serving(command: str, upstream: str, keys: Path, *more: str) -> Iterator[str]:
    """One of the commands at a free port, over flags alone."""
    with reserved_port_range(1 + BROKER_PORTS) as port:
        address = f"127.0.0.1:{port}"
        arguments: Sequence[str] = ("--upstream", upstream, "--keys", str(keys), "--listen", address, *more)
        with Child([*KVEIL, command, *arguments]) as child:
            child.errors.wait_for("listening", SECONDS)
            yield address


@pytest.fixture(scope="module")
def producer_side(kafka: Cluster, keys: Path) -> Iterator[str]:
    with serving("producer", kafka.bootstrap, keys) as address:
        yield address


@pytest.fixture(scope="module")
def consumer_side(kafka: Cluster, keys: Path) -> Iterator[str]:
    with serving("consumer", kafka.bootstrap, keys) as address:
        yield address


def test_console_tools(kafka: Cluster, producer_side: str, consumer_side: str, topic: str):
    """The issue's own two lines."""
    kafka.create_topic(topic)
    java.java_tool(java.CONSOLE_PRODUCER, "--bootstrap-server", producer_side, "--topic", topic, stdin="hello\nworld\n")
    limits = ("--from-beginning", "--max-messages", "2", "--timeout-ms", "60000")
    reach = ("--bootstrap-server", consumer_side, "--topic", topic)
    assert java.java_tool(java.CONSOLE_CONSUMER, *reach, *limits).stdout == "hello\nworld\n"
    assert b"hello" not in kafka.stored_bytes(topic)


def test_librdkafka(kafka: Cluster, producer_side: str, consumer_side: str, topic: str):
    kafka.create_topic(topic)
    sent = [Record(value=b"%d" % number, timestamp=1_700_000_000_000) for number in range(100)]
    librdkafka_produce(producer_side, topic, sent)
    assert librdkafka_read(consumer_side, topic) == numbered(sent)


def test_a_consumer_at_the_producers_port(kafka: Cluster, producer_side: str, topic: str):
    """It is told so, by both clients, and gets no byte."""
    kafka.create_topic(topic)
    librdkafka_produce(producer_side, topic, [Record(value=b"secret")])
    with pytest.raises(KafkaException) as error:
        librdkafka_read(producer_side, topic)
    assert error.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    reach = ("--bootstrap-server", producer_side, "--topic", topic, "--from-beginning", "--timeout-ms", "20000")
    done = java.java_tool(java.CONSOLE_CONSUMER, *reach, check=False)
    assert "secret" not in done.stdout
    assert "TopicAuthorizationException" in done.stderr


def test_a_share_consumer_at_the_producers_port(kafka: Cluster, producer_side: str, topic: str):
    kafka.create_topic(topic)
    librdkafka_produce(producer_side, topic, [Record(value=b"secret")])
    consumer = ShareConsumer(librdkafka(producer_side, group_id=topic))
    try:
        consumer.subscribe([topic])
        with pytest.raises(KafkaException) as error:
            consumer.poll(SECONDS)
        assert error.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
        assert "this listener is for producers" in error.value.args[0].str()
    finally:
        consumer.close()
    reach = ("--bootstrap-server", producer_side, "--topic", topic, "--timeout-ms", "60000")
    done = java.java_tool(java.CONSOLE_SHARE_CONSUMER, *reach, check=False)
    assert "secret" not in done.stdout
    assert "TopicAuthorizationException" in done.stderr


def test_a_producer_at_the_consumers_port(kafka: Cluster, consumer_side: str, topic: str):
    kafka.create_topic(topic)
    assert librdkafka_refusal(consumer_side, topic).code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    reach = ("--bootstrap-server", consumer_side, "--topic", topic)
    done = java.java_tool(java.CONSOLE_PRODUCER, *reach, stdin="secret\n", check=False)
    assert "TopicAuthorizationException" in done.stdout + done.stderr
    assert kafka.stored_bytes(topic) == b""


def test_ordinary_work_goes_on_in_both(producer_side: str, consumer_side: str, topic: str):
    """Topics can be made and described at either port."""
    for address in (producer_side, consumer_side):
        name = f"{topic}-{address.rpartition(':')[2]}"
        java.java_tool(java.TOPICS, "--bootstrap-server", address, "--create", "--topic", name)
        assert name in java.java_tool(java.TOPICS, "--bootstrap-server", address, "--list").stdout.split()
