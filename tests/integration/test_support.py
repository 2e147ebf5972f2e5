"""The real parts work by themselves, before anything of ours stands between them."""

import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AclOperation, AdminClient, ConfigResource, ResourceType

from tests.support import java
from tests.support.kafka import Cluster, Security, kafka_cluster
from tests.support.kafkajs import COMPRESSIONS, Message, kafkajs_consume, kafkajs_produce
from tests.support.security import MECHANISMS, login

SECONDS = 30.0


def produce(settings: dict[str, object], topic: str, values: list[bytes]) -> None:
    producer = Producer(settings)
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(SECONDS) == 0


def consume(settings: dict[str, object], topic: str, count: int) -> list[bytes]:
    group = {"group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer({**settings, **group})
    try:
        consumer.subscribe([topic])
        messages = consumer.consume(count, SECONDS)
        assert not any(message.error() for message in messages)
        return [message.value() for message in messages]
    finally:
        consumer.close()


def test_librdkafka(kafka: Cluster, topic: str):
    kafka.create_topic(topic, partitions=1)
    produce(kafka.client_settings(), topic, [b"one", b"two"])
    assert consume(kafka.client_settings(), topic, 2) == [b"one", b"two"]


async def test_aiokafka(kafka: Cluster, topic: str):
    kafka.create_topic(topic)
    async with AIOKafkaProducer(**kafka.aiokafka_settings()) as producer:
        await producer.send_and_wait(topic, b"one")
    async with AIOKafkaConsumer(
        topic, **kafka.aiokafka_settings(), auto_offset_reset="earliest", group_id=uuid.uuid4().hex
    ) as consumer:
        assert (await consumer.getone()).value == b"one"


def test_java_console_tools(kafka: Cluster, topic: str):
    kafka.create_topic(topic)
    reach = ("--bootstrap-server", kafka.bootstrap, "--topic", topic)
    java.java_tool(java.CONSOLE_PRODUCER, *reach, stdin="one\ntwo\n")
    limits = ("--from-beginning", "--max-messages", "2", "--timeout-ms", "30000")
    assert java.java_tool(java.CONSOLE_CONSUMER, *reach, *limits).stdout == "one\ntwo\n"
    assert java.java_tool(java.GET_OFFSETS, *reach).stdout == f"{topic}:0:2\n"


def test_java_share_consumer(kafka: Cluster, topic: str):
    """Share groups are on by default in 4.3; a new group starts at the end unless told otherwise."""
    kafka.create_topic(topic)
    group = uuid.uuid4().hex
    reset = (
        "--entity-type",
        "groups",
        "--entity-name",
        group,
        "--add-config",
        "share.auto.offset.reset=earliest",
    )
    java.java_tool(java.CONFIGS, "--bootstrap-server", kafka.bootstrap, "--alter", *reset)
    produce(kafka.client_settings(), topic, [b"shared"])
    limits = ("--group", group, "--max-messages", "1", "--timeout-ms", "30000")
    reach = ("--bootstrap-server", kafka.bootstrap, "--topic", topic)
    assert java.java_tool(java.CONSOLE_SHARE_CONSUMER, *reach, *limits).stdout == "shared\n"


def test_java_long_runner(kafka: Cluster, topic: str):
    kafka.create_topic(topic)
    reach = ("--bootstrap-server", kafka.bootstrap, "--topic", topic)
    with java.start_java_tool(java.VERIFIABLE_CONSUMER, *reach, "--group-id", topic) as consumer:
        consumer.lines.wait_for("partitions_assigned", SECONDS)
        java.java_tool(java.VERIFIABLE_PRODUCER, *reach, "--max-messages", "10")
        consumer.lines.wait_for("records_consumed", SECONDS)
        consumer.stop()
        consumer.lines.wait_for("shutdown_complete", SECONDS)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_sasl(kafka_sasl: Cluster, topic: str, mechanism: str):
    kafka_sasl.create_topic(topic)
    settings = kafka_sasl.client_settings(login("alice", mechanism))
    produce(settings, topic, [b"one"])
    assert consume(settings, topic, 1) == [b"one"]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_java_sasl(kafka_sasl: Cluster, topic: str, mechanism: str):
    kafka_sasl.create_topic(topic)
    with java.properties_file(kafka_sasl.java_settings(login("bob", mechanism))) as config:
        reach = ("--bootstrap-server", kafka_sasl.bootstrap, "--topic", topic)
        assert java.java_tool(java.GET_OFFSETS, *reach, "--command-config", config).stdout == f"{topic}:0:0\n"


async def test_aiokafka_sasl(kafka_sasl: Cluster, topic: str):
    kafka_sasl.create_topic(topic)
    async with AIOKafkaProducer(**kafka_sasl.aiokafka_settings(login("bob", "SCRAM-SHA-512"))) as producer:
        await producer.send_and_wait(topic, b"one")


def test_canary_is_found_on_disk(kafka: Cluster, topic: str):
    kafka.create_topic(topic)
    canary = uuid.uuid4().hex.encode()
    assert not kafka.contains(canary)
    produce(kafka.client_settings(), topic, [canary])
    assert kafka.contains(canary)
    assert canary in kafka.stored_bytes(topic)
    assert all(isinstance(path, Path) and path.suffix == ".log" for path in kafka.files_with(canary))


def test_topic_life(kafka: Cluster, topic: str):
    kafka.create_topic(topic, config={"cleanup.policy": "compact"})
    assert kafka.topic_config(topic)["cleanup.policy"] == "compact"
    kafka.alter_topic_config(topic, {"cleanup.policy": None, "max.message.bytes": 5000})
    changed = kafka.topic_config(topic)
    assert (changed["cleanup.policy"], changed["max.message.bytes"]) == ("delete", "5000")
    kafka.delete_topic(topic)


def test_nodes_come_back(kafka3: Cluster, topic: str):
    kafka3.create_topic(topic, replication=3)
    produce(kafka3.client_settings(), topic, [b"kept"])
    for end in (kafka3.stop_node, kafka3.kill_node):
        port = kafka3.nodes[0].port
        end(0)
        assert not kafka3.nodes[0].running
        kafka3.wait_until_ready()
        kafka3.start_node(0)
        assert kafka3.nodes[0].port == port
    assert consume(kafka3.client_settings(), topic, 1) == [b"kept"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_kafkajs(kafka: Cluster, topic: str, compression: str):
    kafka.create_topic(topic)
    sent = Message(key=b"k", value=b"two" * 100, headers={"h": b"\x00\xff"}, partition=0, timestamp=1_700_000_000_000)
    kafkajs_produce(kafka.bootstrap, topic, [b"one", sent], compression)
    first, second = kafkajs_consume(kafka.bootstrap, topic, uuid.uuid4().hex, 2)
    assert first.value == b"one"
    assert replace(second, offset=None) == sent


def test_kafkajs_sasl(kafka_sasl: Cluster, topic: str):
    kafka_sasl.create_topic(topic)
    ca = kafka_sasl.certificates.authority.path
    answer = kafkajs_produce(kafka_sasl.bootstrap, topic, [b"one"], login=login("bob", "SCRAM-SHA-512"), ca=ca)
    assert answer[0]["baseOffset"] == "0"


@pytest.mark.broker
def test_acl_denies_describing_configs(topic: str):
    """What a proxy meets behind an ordinary producer's rights."""
    with kafka_cluster(security=Security.SASL_PLAINTEXT, acls=True) as cluster:
        cluster.create_topic(topic)
        cluster.allow("alice", ResourceType.TOPIC, topic, AclOperation.WRITE)
        produce(cluster.client_settings(), topic, [b"one"])
        resource = ConfigResource(ResourceType.TOPIC, topic)
        alice = AdminClient(cluster.client_settings())
        asked = alice.describe_configs([resource])[resource]
        with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
            asked.result(SECONDS)
