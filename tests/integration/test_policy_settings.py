"""Compacted topics are sealed record by record, also when they become so, and so are topics whose settings may not be
read."""

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

from kveil.protocol.kafka.record_batch import split_batches
from kveil.proxy.config import Mode
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
from tests.support.records import mode_of
from tests.support.security import login

SECONDS = 60.0
NOT_ENOUGH_REPLICAS = 19


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_a_compacted_topic_is_sealed_record_by_record(kafka: Cluster, proxy: Proxy, topic: str, policy: str):
    kafka.create_topic(topic, config={"cleanup.policy": policy})
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic, "--reader-property", "parse.key=true")
    java.java_tool(java.CONSOLE_PRODUCER, *reach, stdin="key\tsecret\n")
    assert [(record.key, record.value) for record in librdkafka_read(proxy.bootstrap, topic)] == [(b"key", b"secret")]
    assert mode_of(kafka.stored_bytes(topic)) is Mode.RECORD


def set_policy(bootstrap: str, topic: str, policy: str) -> None:
    change = ConfigEntry("cleanup.policy", policy, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.incremental_alter_configs([resource])[resource].result(SECONDS)


def test_a_change_through_the_proxy_counts_at_once(kafka: Cluster, proxy: Proxy, topic: str):
    kafka.create_topic(topic)
    with RawClient(proxy.bootstrap) as client:
        for policy in ("delete", "compact", "delete"):
            set_policy(proxy.bootstrap, topic, policy)
            assert kafka.topic_config(topic)["cleanup.policy"] == policy
            assert client.produce({topic: {0: batch([b"one"])}})[topic, 0][0] == 0
    stored = [mode_of(bytes(view)) for view in split_batches(kafka.stored_bytes(topic))]
    assert stored == [Mode.BATCH, Mode.RECORD, Mode.BATCH]


def test_a_topic_that_comes_back_compacted(kafka: Cluster, proxy: Proxy, topic: str):
    """Deleted and made again through the proxy, under the same name."""
    admin = AdminClient({"bootstrap.servers": proxy.bootstrap})
    kafka.create_topic(topic)
    librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"one")])
    admin.delete_topics([topic], operation_timeout=SECONDS)[topic].result(SECONDS)
    kafka._admin._wait_for_topic(topic, 0)
    kafka.create_topic(topic, config={"cleanup.policy": "compact"})
    librdkafka_produce(proxy.bootstrap, topic, [Record(key=b"k", value=b"two")])
    assert mode_of(kafka.stored_bytes(topic)) is Mode.RECORD


def test_a_change_from_elsewhere_is_noticed_by_the_brokers_answer(kafka: Cluster, proxy: Proxy, topic: str):
    """It refuses stubs, which have no keys. The client is told to try again, and then it goes in the other mode."""
    kafka.create_topic(topic)
    with RawClient(proxy.bootstrap) as client:
        assert client.produce({topic: {0: batch([b"one", b"two"])}})[topic, 0] == (0, 0)
        kafka.alter_topic_config(topic, {"cleanup.policy": "compact"})
        answers = [client.produce({topic: {0: batch([b"three", b"four"])}})[topic, 0][0] for _ in range(2)]
        assert answers == [NOT_ENOUGH_REPLICAS, 0]
        assert [value for _, value in client.fetch(topic).values] == [b"one", b"two", b"three", b"four"]
        kafka.alter_topic_config(topic, {"cleanup.policy": "delete"})


def test_clients_do_not_notice(kafka: Cluster, proxy: Proxy, topic: str):
    """The same with a client that tries again by itself."""
    kafka.create_topic(topic)
    sender = Sender(proxy.bootstrap, topic, linger_ms=100)
    for _ in range(2):
        for number in range(5):
            sender.send(Record(key=b"k", value=b"%d" % number))
        sender.flush()
        kafka.alter_topic_config(topic, {"cleanup.policy": "compact"})
    assert (sender.delivered, sender.errors) == (10, [])
    assert [record.value for record in librdkafka_read(proxy.bootstrap, topic)] == [b"0", b"1", b"2", b"3", b"4"] * 2


def test_settings_are_read_again_in_time(kafka: Cluster, topic: str):
    """A batch of one record has a key, so the broker's answer tells nothing: the settings' short life does."""
    kafka.create_topic(topic)
    config = {"limits": {"topic_settings_seconds": 0.5}}
    with kveil_proxy(kafka.bootstrap, config=config) as proxy, RawClient(proxy.bootstrap) as client:
        assert client.produce({topic: {0: batch([b"one"])}})[topic, 0] == (0, 0)
        kafka.alter_topic_config(topic, {"cleanup.policy": "compact"})
        changed = time.monotonic()
        while Mode.RECORD not in {mode_of(bytes(view)) for view in split_batches(kafka.stored_bytes(topic))}:
            assert client.produce({topic: {0: batch([b"more"])}})[topic, 0][0] == 0
            assert time.monotonic() - changed < 10


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
    """Nothing is known of the topic: record mode, which is right everywhere. The log says how to get the other."""
    guarded.allow("alice", ResourceType.GROUP, "*", AclOperation.READ)
    with kveil_proxy(guarded.bootstrap) as proxy:
        settings = guarded.client_settings(login("alice"), bootstrap=proxy.bootstrap)
        sent = [Record(key=b"k", value=b"%d" % number) for number in range(5)]
        librdkafka_produce(settings, alices, sent)
        assert [record.value for record in librdkafka_read(settings, alices)] == [record.value for record in sent]
        (line,) = proxy.events("topic_settings_unreadable")
        assert line["topic"] == alices
        assert all(part in line["reason"] for part in ("DESCRIBE_CONFIGS", "mode: batch"))
    assert mode_of(guarded.stored_bytes(alices)) is Mode.RECORD


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
    assert mode_of(guarded.stored_bytes(alices)) is Mode.BATCH


def test_the_brokers_own_refusals_pass(guarded: Cluster, alices: str):
    """Bob has no rights at all, and hears that from the broker."""
    with kveil_proxy(guarded.bootstrap, topics=[{"match": "*", "mode": "batch"}]) as proxy:
        settings = guarded.client_settings(login("bob"), bootstrap=proxy.bootstrap)
        assert librdkafka_refusal(settings, alices).code() in {
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError._UNKNOWN_TOPIC,
        }
