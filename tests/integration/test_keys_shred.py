"""Crypto-shredding: a key that is destroyed takes its topic with it, for everybody, and no other."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError
from confluent_kafka import TopicPartition as Place

from tests.support import java
from tests.support.clients import Record, librdkafka, librdkafka_produce, librdkafka_read, librdkafka_refusal, numbered
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil, kveil_proxy
from tests.support.raw_client import RawClient

SECONDS = 60.0
T = 1_700_000_000_000
TOPIC_AUTHORIZATION_FAILED = 29
RECORDS = [Record(value=f"of someone {number}".encode(), key=b"k", timestamp=T) for number in range(20)]


@pytest.fixture
def keys(tmp_path: Path, topic: str) -> Path:
    """A key file with a key for each of two topics."""
    path = tmp_path / "keys.json"
    done = kveil("keys", "init", "--keys", str(path), "--key", f"k-{topic}-gone", "--key", f"k-{topic}-kept")
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def proxies(kafka: Cluster, keys: Path) -> Iterator[tuple[Proxy, Proxy]]:
    """Two hosts, of which the second only reads. Both ask for what they have unwrapped again after a second."""
    settings = {"keys": {"path": str(keys), "default": "k-{topic}", "unwrap_cache_seconds": 1}}
    with (
        kveil_proxy(kafka.bootstrap, keys=keys, config=settings) as one,
        kveil_proxy(kafka.bootstrap, keys=keys, config=settings, direction="consume") as two,
    ):
        yield one, two


def wait_until_refused(proxy: Proxy, topic: str) -> None:
    """As long as what was unwrapped may be kept."""
    deadline = time.monotonic() + SECONDS
    with RawClient(proxy.bootstrap) as client:
        while client.fetch(topic).error != TOPIC_AUTHORIZATION_FAILED:
            assert time.monotonic() < deadline, "it still opens"


def librdkafka_error(proxy: Proxy, topic: str) -> int:
    """What a consumer is told from the beginning of the topic."""
    consumer = Consumer(librdkafka(proxy.bootstrap, group_id=topic, enable_auto_commit=False))
    consumer.assign([Place(topic, 0, 0)])
    (message,) = consumer.consume(1, SECONDS)
    consumer.close()
    return message.error().code() if message.error() else KafkaError.NO_ERROR


def java_output(proxy: Proxy, topic: str) -> str:
    """All that Java's console consumer prints when it reads the topic."""
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic, "--from-beginning")
    done = java.java_tool(java.CONSOLE_CONSUMER, *reach, "--max-messages", "1", "--timeout-ms", "30000", check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("mode", ["batch", "record"])
def test_a_destroyed_key_takes_its_topic_with_it(
    kafka: Cluster, proxies: tuple[Proxy, Proxy], keys: Path, topic: str, mode: str
):
    gone, kept = f"{topic}-gone", f"{topic}-kept"
    for name in (gone, kept):
        kafka.create_topic(name, config={"cleanup.policy": "compact"} if mode == "record" else {})
        librdkafka_produce(proxies[0].bootstrap, name, RECORDS)
    for proxy in proxies:
        assert librdkafka_read(proxy.bootstrap, gone) == numbered(RECORDS)
    destroyed = kveil("keys", "destroy", f"k-{gone}", "--keys", str(keys), stdin=f"k-{gone}\n")
    assert destroyed.returncode == 0, destroyed.stderr
    event = json.loads(destroyed.stderr.splitlines()[-1])["cloudevent"]
    assert (event["type"], event["subject"]) == ("io.kveil.key.destroyed", f"k-{gone}")
    for proxy in proxies:
        wait_until_refused(proxy, gone)
        assert librdkafka_read(proxy.bootstrap, kept) == numbered(RECORDS)
    for proxy in proxies:
        proxy.stop()
        proxy.start()
        assert librdkafka_error(proxy, gone) == KafkaError.TOPIC_AUTHORIZATION_FAILED
        refusal = proxy.events("audit")[-1]["cloudevent"]
        assert (refusal["type"], refusal["subject"]) == ("io.kveil.key.refused", gone)
        assert f"has no key k-{gone}" in refusal["data"]["reason"]
        assert librdkafka_read(proxy.bootstrap, kept) == numbered(RECORDS)
    refused = librdkafka_refusal(proxies[0].bootstrap, gone)
    assert refused.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    if mode == "batch":
        printed = java_output(proxies[1], gone)
        assert "TopicAuthorizationException" in printed
        assert "of someone" not in printed
