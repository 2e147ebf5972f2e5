"""`kveil migrate --mark` and `plain_before`: a topic that is sealed from some point on."""

import json
from collections.abc import Iterator

import pytest
import yaml
from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as Place

from kveil.protocol.kafka.api_table import ApiKey
from tests.support import java
from tests.support.clients import Record, librdkafka, librdkafka_produce, librdkafka_read
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil, kveil_proxy
from tests.support.raw_client import RawClient

SECONDS = 60.0
T = 1_700_000_000_000
GROUP_RESOURCE = 32


@pytest.fixture
def marked(kafka: Cluster, topic: str) -> Iterator[Proxy]:
    """A topic that was plain, and a proxy that has the rule which the command printed."""
    kafka.create_topic(topic, partitions=2)
    plain = [Record(value=b"plain %d" % n, partition=n % 2, timestamp=T + n) for n in range(6)]
    librdkafka_produce(kafka.bootstrap, topic, plain, linger_ms=100)
    with kveil_proxy(kafka.bootstrap, start=False) as proxy:
        said = kveil("migrate", "--mark", topic, "--upstream", kafka.bootstrap, "--keys", str(proxy.keys))
        assert said.returncode == 0, said.stderr
        assert "what is written plain after it can't be read" in said.stderr
        printed = yaml.safe_load(said.stdout)
        assert printed == {"topics": [{"match": topic, "plain_before": {0: 3, 1: 3}}]}
        proxy.config |= printed
        proxy.start()
        yield proxy


def test_both_sides_of_the_mark(kafka: Cluster, marked: Proxy, topic: str):
    sealed = [Record(value=b"behind the mark %d" % n, partition=n % 2, timestamp=T + 100 + n) for n in range(4)]
    librdkafka_produce(marked.bootstrap, topic, sealed, linger_ms=100)
    found = librdkafka_read(marked.bootstrap, topic)
    assert [each.value for each in found if each.partition == 0] == [
        b"plain 0", b"plain 2", b"plain 4", b"behind the mark 0", b"behind the mark 2",
    ]  # fmt: skip
    assert not kafka.contains(b"behind the mark 0")
    told = [line["cloudevent"] for line in marked.events("audit")]
    (passed,) = [each for each in told if each["type"] == "io.kveil.plain.passed" and each["data"]["partition"] == 0]
    assert (passed["subject"], passed["data"]["first_offset"], passed["data"]["last_offset"]) == (topic, 0, 2)


def test_plain_behind_the_mark_is_refused(kafka: Cluster, marked: Proxy, topic: str):
    librdkafka_produce(kafka.bootstrap, topic, [Record(value=b"forged", timestamp=T)])
    with pytest.raises(KafkaException, match="INVALID_MSG"):
        librdkafka_read(marked.bootstrap, topic)
    with RawClient(marked.bootstrap) as client:
        assert client.fetch(topic, offset=0).error == 0
        assert client.fetch(topic, offset=3).error == 2
        assert client.fetch(topic, partition=1, offset=0).error == 0


def test_a_time_lookup_on_both_sides(kafka: Cluster, marked: Proxy, topic: str):
    sealed = [Record(value=b"sealed", timestamp=T + 100 + n) for n in range(3)]
    librdkafka_produce(marked.bootstrap, topic, sealed, linger_ms=100)
    consumer = Consumer(librdkafka(marked.bootstrap, group_id=topic))
    try:
        for stamp, offset in ((0, 0), (2, 1), (4, 2), (5, 3), (101, 4), (102, 5)):
            assert consumer.offsets_for_times([Place(topic, 0, T + stamp)], SECONDS)[0].offset == offset
    finally:
        consumer.close()


@pytest.mark.kafka4
def test_a_share_group_on_both_sides(kafka: Cluster, marked: Proxy, topic: str):
    """Each record is acquired once, plain or sealed."""
    librdkafka_produce(marked.bootstrap, topic, [Record(value=b"sealed", partition=n) for n in (0, 1)])
    setting = {"name": "share.auto.offset.reset", "config_operation": 0, "value": "earliest"}
    resource = {"resource_type": GROUP_RESOURCE, "resource_name": topic, "configs": [setting]}
    with RawClient(marked.bootstrap) as client:
        client.ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, {"resources": [resource], "validate_only": False})
    reach = ("--bootstrap-server", marked.bootstrap, "--topic", topic, "--group", topic)
    said = java.java_tool(java.CONSOLE_SHARE_CONSUMER, *reach, "--max-messages", "8", "--timeout-ms", "60000").stdout
    assert sorted(said.splitlines()) == [*(f"plain {n}" for n in range(6)), "sealed", "sealed"]


def test_a_mark_is_fixed_once(marked: Proxy, topic: str):
    said = kveil("migrate", "-c", str(marked.folder / "kveil.yaml"), "--mark", topic)
    assert said.returncode == 2
    assert "has plain_before already" in said.stderr


def test_a_topic_that_needs_none(kafka: Cluster, marked: Proxy, topic: str):
    sealed = f"sealed-{topic}"
    kafka.create_topic(sealed)
    librdkafka_produce(marked.bootstrap, sealed, [Record(value=b"x")])
    said = kveil("migrate", "-c", str(marked.folder / "kveil.yaml"), "--mark", sealed)
    assert said.returncode == 2
    assert "it needs no plain_before" in said.stderr
    assert "there is no topic" in kveil("migrate", "-c", str(marked.folder / "kveil.yaml"), "--mark", "none").stderr


def test_a_mark_for_machines(kafka: Cluster, marked: Proxy, topic: str):
    kafka.create_topic(f"empty-{topic}")
    said = kveil("migrate", "-c", str(marked.folder / "kveil.yaml"), "--mark", f"empty-{topic}", "--json")
    assert json.loads(said.stdout) == {"topic": f"empty-{topic}", "plain_before": {"0": 0}}
