"""Room in topics for what sealing adds: by hand, by rule, and what `doctor` says of it."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from tests.support.kafka import Cluster, Security, kafka_cluster
from tests.support.proxy import Proxy, kveil, kveil_proxy
from tests.support.raw_client import RawClient, batch
from tests.support.security import login

MESSAGE_TOO_LARGE = 10
FULL = batch([random.Random(1).randbytes(1_048_450)])
"""A batch that fills Kafka's default limit and doesn't shrink."""
RAISED = "1183757"
CHANCE = random.Random(2)
FULL_OF_SMALL = batch([CHANCE.randbytes(60) for _ in range(14_000)])
"""One of records that take four times as much each when they are sealed by themselves."""
RAISED_FOR_RECORDS = str(4 * 1_048_588)


@pytest.fixture(scope="module")
def raising(kafka: Cluster) -> Iterator[Proxy]:
    """A proxy whose rule allows it to raise limits."""
    with kveil_proxy(kafka.bootstrap, topics=[{"match": "*", "raise_message_limit": True}]) as running:
        yield running


def reach(kafka: Cluster, proxy: Proxy) -> tuple[str, ...]:
    return ("--upstream", kafka.bootstrap, "--keys", str(proxy.keys))


def limit_of(kafka: Cluster, topic: str) -> str:
    return kafka.topic_config(topic)["max.message.bytes"]


def test_prepare_makes_a_full_batch_fit(kafka: Cluster, proxy: Proxy, topic: str):
    kafka.create_topic(topic)
    with RawClient(proxy.bootstrap) as client:
        assert client.produce({topic: {0: FULL}})[topic, 0][0] == MESSAGE_TOO_LARGE
    shown = kveil("prepare", topic, *reach(kafka, proxy))
    assert shown.stdout == f"{topic}: max.message.bytes 1048588 -> {RAISED}\n"
    assert (shown.returncode, limit_of(kafka, topic)) == (2, "1048588")
    assert "--yes" in shown.stderr
    done = kveil("prepare", topic, "--yes", "--json", *reach(kafka, proxy))
    assert json.loads(done.stdout) == {"topics": {topic: {"before": 1_048_588, "after": int(RAISED)}}}
    assert (done.returncode, limit_of(kafka, topic)) == (0, RAISED)
    with kveil_proxy(kafka.bootstrap, keys=proxy.keys) as fresh, RawClient(fresh.bootstrap) as client:
        assert client.produce({topic: {0: FULL}})[topic, 0] == (0, 0)
    again = kveil("prepare", topic, *reach(kafka, proxy))
    assert (again.returncode, again.stdout) == (0, f"{topic}: max.message.bytes {RAISED} leaves room already\n")


def test_prepare_makes_a_full_batch_fit_in_record_mode(kafka: Cluster, proxy: Proxy, topic: str):
    kafka.create_topic(topic, config={"cleanup.policy": "compact"})
    with RawClient(proxy.bootstrap) as client:
        assert client.produce({topic: {0: FULL_OF_SMALL}})[topic, 0][0] == MESSAGE_TOO_LARGE
    assert kveil("prepare", topic, "--yes", *reach(kafka, proxy)).returncode == 0
    assert limit_of(kafka, topic) == RAISED_FOR_RECORDS
    with kveil_proxy(kafka.bootstrap, keys=proxy.keys) as fresh, RawClient(fresh.bootstrap) as client:
        assert client.produce({topic: {0: FULL_OF_SMALL}})[topic, 0] == (0, 0)
    assert kveil("doctor", topic, "--no-canary", *reach(kafka, proxy)).returncode == 0


def test_prepare_a_topic_that_is_not_there(kafka: Cluster, proxy: Proxy, topic: str):
    done = kveil("prepare", topic, "--yes", *reach(kafka, proxy))
    assert done.returncode == 1
    assert "no such topic" in done.stdout


def test_doctor_warns(kafka: Cluster, proxy: Proxy, topic: str):
    kafka.create_topic(topic)
    done = kveil("doctor", topic, "--no-canary", *reach(kafka, proxy))
    (found,) = [line for line in done.stdout.splitlines() if line.startswith("WARNING")]
    assert done.returncode == 3
    assert found.startswith(f"WARNING topic {topic}: max.message.bytes 1048588")
    assert found.endswith(f" -> kveil prepare {topic}")
    kveil("prepare", topic, "--yes", *reach(kafka, proxy))
    assert kveil("doctor", topic, "--no-canary", *reach(kafka, proxy)).returncode == 0


def test_a_rule_raises_the_limit(kafka: Cluster, raising: Proxy, topic: str):
    """When a batch comes near it, and not before."""
    kafka.create_topic(topic)
    with RawClient(raising.bootstrap) as client:
        assert client.produce({topic: {0: batch([b"small"])}})[topic, 0] == (0, 0)
        assert limit_of(kafka, topic) == "1048588"
        assert client.produce({topic: {0: FULL}})[topic, 0] == (0, 1)
        assert limit_of(kafka, topic) == RAISED
        assert client.produce({topic: {0: FULL}})[topic, 0] == (0, 2)
    (line,) = [line for line in raising.events("audit") if line["cloudevent"]["type"] == "io.kveil.topic.limit_raised"]
    assert line["cloudevent"]["data"].items() >= {"before": 1_048_588, "after": int(RAISED)}.items()


def test_a_rule_raises_the_limit_in_record_mode(kafka: Cluster, raising: Proxy, topic: str):
    kafka.create_topic(topic, config={"cleanup.policy": "compact"})
    with RawClient(raising.bootstrap) as client:
        assert client.produce({topic: {0: FULL_OF_SMALL}})[topic, 0] == (0, 0)
    assert limit_of(kafka, topic) == RAISED_FOR_RECORDS


@pytest.mark.broker
def test_a_rule_without_the_right_to_it(tmp_path: Path, topic: str):
    """The client is answered as without the rule, and the broker isn't asked with every batch."""
    with kafka_cluster(security=Security.SASL_PLAINTEXT, acls=True) as guarded:
        guarded.create_topic(topic)
        for operation in (AclOperation.WRITE, AclOperation.DESCRIBE_CONFIGS):
            guarded.allow("alice", ResourceType.TOPIC, topic, operation)
        secret = tmp_path / "password"
        secret.write_text(login("alice").password)
        sasl = {"mechanism": "PLAIN", "username": "alice", "password": f"file:{secret}"}
        config = {"upstream": {"bootstrap": [guarded.bootstrap], "sasl": sasl}}
        rules = [{"match": "*", "raise_message_limit": True}]
        with (
            kveil_proxy(guarded.bootstrap, topics=rules, config=config) as proxy,
            RawClient(proxy.bootstrap) as client,
        ):
            for _ in range(3):
                assert client.produce({topic: {0: FULL}})[topic, 0][0] == MESSAGE_TOO_LARGE
            (line,) = proxy.events("message_limit_not_raised")
            assert line["error"] == "topic_authorization_failed"
        assert limit_of(guarded, topic) == "1048588"
