"""Compacted topics are refused, also when they become so, and so are topics whose settings may not be read."""

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import (
    AclOperation,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tests.support import java
from tests.support.clients import (
    Record,
    Sender,
    librdkafka_produce,
    librdkafka_read,
    librdkafka_refusal,
    untimed,
)
from tests.support.kafka import Cluster, Security, kafka_cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import RawClient, batch
from tests.support.security import login

SECONDS = 60.0
NOT_ENOUGH_REPLICAS, POLICY_VIOLATION = 19, 44


def java_refusal(bootstrap: str, topic: str, *more: str) -> str:
    """What the console producer says of a record that is refused."""
    reach = ("--bootstrap-server", bootstrap, "--topic", topic, *more)
    done = java.java_tool(java.CONSOLE_PRODUCER, *reach, stdin="secret\n", check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_a_compacted_topic_is_refused(kafka: Cluster, proxy: Proxy, topic: str, policy: str):
    """With an error that is final and, for clients that show it, a text that helps. Nothing is stored."""
    kafka.create_topic(topic, config={"cleanup.policy": policy})
    assert librdkafka_refusal(proxy.bootstrap, topic).code() == KafkaError.POLICY_VIOLATION
    said = java_refusal(proxy.bootstrap, topic)
    assert "PolicyViolationException" in said
    assert f"topic {topic} has compact in its cleanup.policy" in said
    assert "seal: none" in said
    assert kafka.stored_bytes(topic) == b""
    refused = [line for line in proxy.events("produce_refused") if line["topic"] == topic]
    assert refused[0]["error"] == "POLICY_VIOLATION"


def set_policy(bootstrap: str, topic: str, policy: str) -> None:
    change = ConfigEntry("cleanup.policy", policy, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.incremental_alter_configs([resource])[resource].result(SECONDS)


def test_a_change_through_the_proxy_counts_at_once(kafka: Cluster, proxy: Proxy, topic: str):
    kafka.create_topic(topic)
    with RawClient(proxy.bootstrap) as client:
        for policy, expected in (("delete", 0), ("compact", POLICY_VIOLATION), ("delete", 0)):
            set_policy(proxy.bootstrap, topic, policy)
            assert kafka.topic_config(topic)["cleanup.policy"] == policy
            assert client.produce({topic: {0: batch([b"one"])}})[topic, 0][0] == expected


def test_a_topic_that_comes_back_compacted(kafka: Cluster, proxy: Proxy, topic: str):
    """Deleted and made again through the proxy, under the same name."""
    admin = AdminClient({"bootstrap.servers": proxy.bootstrap})
    kafka.create_topic(topic)
    librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"one")])
    admin.delete_topics([topic], operation_timeout=SECONDS)[topic].result(SECONDS)
    kafka._admin._wait_for_topic(topic, 0)
    kafka.create_topic(topic, config={"cleanup.policy": "compact"})
    assert librdkafka_refusal(proxy.bootstrap, topic).code() == KafkaError.POLICY_VIOLATION


def test_a_change_from_elsewhere_is_noticed_by_the_brokers_answer(kafka: Cluster, proxy: Proxy, topic: str):
    """It refuses stubs, which have no keys. The client is told to try again, and then the reason."""
    kafka.create_topic(topic)
    with RawClient(proxy.bootstrap) as client:
        assert client.produce({topic: {0: batch([b"one", b"two"])}})[topic, 0] == (0, 0)
        kafka.alter_topic_config(topic, {"cleanup.policy": "compact"})
        answers = [client.produce({topic: {0: batch([b"three", b"four"])}})[topic, 0][0] for _ in range(2)]
        assert answers == [NOT_ENOUGH_REPLICAS, POLICY_VIOLATION]
        kafka.alter_topic_config(topic, {"cleanup.policy": "delete"})


def test_clients_end_with_the_reason(kafka: Cluster, proxy: Proxy, topic: str):
    """The same with a client that tries again by itself."""
    kafka.create_topic(topic)
    sender = Sender(proxy.bootstrap, topic, linger_ms=100)
    for expected in ([], [KafkaError.POLICY_VIOLATION] * 5):
        for number in range(5):
            sender.send(Record(value=b"%d" % number))
        sender.flush()
        assert [error.code() for error in sender.errors] == expected
        kafka.alter_topic_config(topic, {"cleanup.policy": "compact"})
    assert sender.delivered == 5


def test_settings_are_read_again_in_time(kafka: Cluster, topic: str):
    """A batch of one record has a key, so the broker's answer tells nothing: the settings' short life does."""
    kafka.create_topic(topic)
    config = {"limits": {"topic_settings_seconds": 0.5}}
    with kveil_proxy(kafka.bootstrap, config=config) as proxy, RawClient(proxy.bootstrap) as client:
        assert client.produce({topic: {0: batch([b"one"])}})[topic, 0] == (0, 0)
        kafka.alter_topic_config(topic, {"cleanup.policy": "compact"})
        changed = time.monotonic()
        while (answer := client.produce({topic: {0: batch([b"more"])}})[topic, 0][0]) == 0:
            assert time.monotonic() - changed < 10
        assert answer == POLICY_VIOLATION


@pytest.fixture(scope="module")
def guarded() -> Iterator[Cluster]:
    """A cluster with an authorizer, where alice may do what she is allowed."""
    with kafka_cluster(security=Security.SASL_PLAINTEXT, acls=True) as cluster:
        yield cluster


@pytest.fixture
def alices(guarded: Cluster, topic: str) -> str:
    """A topic that alice may write to and read from, as ordinary applications may."""
    guarded.create_topic(topic)
    for operation in (AclOperation.WRITE, AclOperation.READ):
        guarded.allow("alice", ResourceType.TOPIC, topic, operation)
    return topic


def test_without_describe_configs(guarded: Cluster, alices: str):
    """Refused, and both remedies are named."""
    guarded.allow("alice", ResourceType.GROUP, "*", AclOperation.READ)
    with kveil_proxy(guarded.bootstrap) as proxy:
        settings = guarded.client_settings(login("alice"), bootstrap=proxy.bootstrap)
        assert librdkafka_refusal(settings, alices).code() == KafkaError.POLICY_VIOLATION
        with java.properties_file(guarded.java_settings(login("alice"), bootstrap=proxy.bootstrap)) as path:
            said = java_refusal(proxy.bootstrap, alices, "--command-config", path)
        assert "DESCRIBE_CONFIGS" in said
        assert "mode: batch" in said
        assert "DESCRIBE_CONFIGS" in proxy.events("produce_refused")[0]["reason"]
    assert guarded.stored_bytes(alices) == b""


@pytest.mark.parametrize("remedy", ["mode: batch", "grant"])
def test_with_either_remedy(guarded: Cluster, alices: str, remedy: str):
    guarded.allow("alice", ResourceType.GROUP, "*", AclOperation.READ)
    topics = [{"match": "*", "mode": "batch"}] if remedy == "mode: batch" else []
    if not topics:
        guarded.allow("alice", ResourceType.TOPIC, alices, AclOperation.DESCRIBE_CONFIGS)
    with kveil_proxy(guarded.bootstrap, topics=topics) as proxy:
        settings = guarded.client_settings(login("alice"), bootstrap=proxy.bootstrap)
        sent = [Record(value=b"%d" % number) for number in range(50)]
        librdkafka_produce(settings, alices, sent)
        assert [record.value for record in untimed(librdkafka_read(settings, alices))] == [r.value for r in sent]
    assert b"\xc5\x4b\x56" in guarded.stored_bytes(alices)


def test_the_brokers_own_refusals_pass(guarded: Cluster, alices: str):
    """Bob has no rights at all, and hears that from the broker."""
    with kveil_proxy(guarded.bootstrap, topics=[{"match": "*", "mode": "batch"}]) as proxy:
        settings = guarded.client_settings(login("bob"), bootstrap=proxy.bootstrap)
        assert librdkafka_refusal(settings, alices).code() in {
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError._UNKNOWN_TOPIC,
        }
