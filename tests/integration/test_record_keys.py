"""One key per record key, through the proxy and a real broker: two customers, one of them erased."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError
from confluent_kafka import TopicPartition as Place

from tests.support.clients import Record, librdkafka, librdkafka_produce, librdkafka_read, numbered
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.proxy import Proxy, kveil, kveil_proxy

T = 1_700_000_000_000
KEY_TOPIC = "_kveil.keys"


def rule(topic: str = "people*", **more: object) -> dict[str, object]:
    return {"match": topic, "mode": "record", "key": "customers", "key_per": "record_key", **more}


@pytest.fixture(scope="module")
def kafka() -> Iterator[Cluster]:
    """A cluster for these tests alone, since its key topic is."""
    with kafka_cluster() as cluster:
        yield cluster


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    done = kveil("keys", "init", "--keys", str(path), "--key", "default", "--key", "customers")
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def people(topic: str, kafka: Cluster) -> str:
    name = f"people-{topic}"[:200]
    kafka.create_topic(name)
    return name


def records(*keys: bytes | None) -> list[Record]:
    return [Record(key=key, value=b"of %a, number %d" % (key, at), timestamp=T + at) for at, key in enumerate(keys)]


CUSTOMERS = records(b"alice", b"bob", None, b"alice", b"carol", b"bob")


def test_records_open_here_and_at_another_proxy(kafka: Cluster, keys: Path, people: str):
    with (
        kveil_proxy(kafka.bootstrap, keys=keys, topics=[rule()]) as one,
        kveil_proxy(kafka.bootstrap, keys=keys, topics=[rule()]) as two,
    ):
        librdkafka_produce(one.bootstrap, people, CUSTOMERS)
        for proxy in (one, two):
            assert librdkafka_read(proxy.bootstrap, people) == numbered(CUSTOMERS)
        assert kafka.topic_config(KEY_TOPIC)["cleanup.policy"] == "compact"
        for marker in (b"alice", b"of b'bob'"):
            assert not kafka.contains(marker)
