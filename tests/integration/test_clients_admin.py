"""Administration through the proxy, and that no answer leads a client around it."""

import time
import uuid
from collections.abc import Callable, Iterator

import psutil
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from kveil.protocol.kafka.api_table import ApiKey
from tests.support import java
from tests.support.clients import Record, librdkafka, librdkafka_produce, librdkafka_read, numbered
from tests.support.kafka import Cluster
from tests.support.proxy import BROKER_PORTS, Proxy, kveil_proxy
from tests.support.raw_client import RawClient

SECONDS = 60.0
LEADER_ELECTION = "org.apache.kafka.tools.LeaderElectionCommand"
ALTER_PARTITION_REASSIGNMENTS = 45
T = 1_700_000_000_000
NOBODY = ("", -1)


@pytest.fixture(scope="module")
def proxy3(kafka3: Cluster) -> Iterator[Proxy]:
    """A proxy before three nodes."""
    with kveil_proxy(kafka3.bootstrap) as running:
        yield running


@pytest.fixture
def admin(proxy3: Proxy) -> AdminClient:
    return AdminClient({"bootstrap.servers": proxy3.bootstrap})


def local_addresses(proxy: Proxy) -> set[tuple[str, int]]:
    """Where clients find the nodes 0, 1 and 2."""
    return {("127.0.0.1", proxy.port + 1 + node) for node in range(3)}


def eventually(check: Callable[[], bool]) -> None:
    """Wait until each of the three nodes, any of which may be asked, knows what the controller decided."""
    deadline = time.monotonic() + SECONDS
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def partitions_everywhere(cluster: Cluster, topic: str) -> set[int]:
    """How many partitions the topic has, as each node says."""
    found = set()
    for node in cluster.nodes:
        with RawClient(node.address) as client:
            found.add(len(client.metadata(topic).topics[0].partitions))
    return found


def test_a_topics_life(kafka3: Cluster, admin: AdminClient, topic: str):
    created = admin.create_topics([NewTopic(topic, 2, 3, config={"retention.ms": "1234567"})])[topic]
    created.result(SECONDS)
    eventually(lambda: partitions_everywhere(kafka3, topic) == {2})
    assert kafka3.topic_config(topic)["retention.ms"] == "1234567"
    resource = ConfigResource(ResourceType.TOPIC, topic)
    change = ConfigEntry("retention.ms", "7654321", incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
    admin.incremental_alter_configs([changed])[changed].result(SECONDS)
    eventually(lambda: read_setting(admin, resource, "retention.ms") == "7654321")
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(SECONDS)
    eventually(lambda: partitions_everywhere(kafka3, topic) == {3})
    answer = admin.describe_topics(TopicCollection([topic]))[topic].result(SECONDS)
    assert len(answer.partitions) == 3
    admin.delete_topics([topic], operation_timeout=SECONDS)[topic].result(SECONDS)
    eventually(lambda: partitions_everywhere(kafka3, topic) == {0})
    gone = admin.describe_topics(TopicCollection([topic]))[topic]
    with pytest.raises(KafkaException) as error:
        gone.result(SECONDS)
    assert error.value.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def read_setting(admin: AdminClient, resource: ConfigResource, name: str) -> str:
    value: str = admin.describe_configs([resource])[resource].result(SECONDS)[name].value
    return value


def test_every_address_is_local(kafka3: Cluster, proxy3: Proxy, admin: AdminClient, topic: str):
    """Metadata, DescribeCluster, DescribeTopicPartitions coordinators: the proxy's ports, and node ids kept."""
    kafka3.create_topic(topic, partitions=3, replication=3)
    local = local_addresses(proxy3)
    metadata = admin.list_topics(timeout=SECONDS)
    assert {(each.host, each.port) for each in metadata.brokers.values()} == local
    assert {node: each.port for node, each in metadata.brokers.items()} == {n: proxy3.port + 1 + n for n in range(3)}
    cluster = admin.describe_cluster().result(SECONDS)
    assert {(node.host, node.port) for node in cluster.nodes} == local
    assert cluster.cluster_id == kafka3.cluster_id
    eventually(lambda: topic in admin.list_topics(topic, timeout=SECONDS).topics)
    described = admin.describe_topics(TopicCollection([topic]))[topic].result(SECONDS)
    nodes = [node for each in described.partitions for node in (each.leader, *each.replicas, *each.isr)]
    assert {(node.host, node.port) for node in nodes} <= local
    consumer = Consumer(librdkafka(proxy3.bootstrap, group_id=topic, auto_offset_reset="earliest"))
    try:
        librdkafka_produce(proxy3.bootstrap, topic, [Record(value=b"one")])
        consumer.subscribe([topic])
        assert consumer.consume(1, SECONDS)[0].value() == b"one"
        listed = admin.list_consumer_groups().result(SECONDS)
        assert topic in [group.group_id for group in listed.valid]
        group = admin.describe_consumer_groups([topic])[topic].result(SECONDS)
        assert (group.coordinator.host, group.coordinator.port) in local
        assert len(group.members) == 1
    finally:
        consumer.close()
    admin.delete_consumer_groups([topic])[topic].result(SECONDS)


@pytest.mark.parametrize("version", range(7))
def test_coordinators_in_all_versions(kafka3: Cluster, proxy3: Proxy, version: int):
    """Old clients get one coordinator at the top of the answer, new ones a list."""
    values = {"key_type": 0, "key": "group"} if version else {"key": "group"}
    if version >= 4:
        values = {"key_type": 0, "coordinator_keys": ["group"]}

    def found() -> set[tuple[str, int]]:
        with RawClient(proxy3.bootstrap) as client:
            answer = client.ask(ApiKey.FIND_COORDINATOR, version, values)
        return {(each.host, each.port) for each in (answer.coordinators if version >= 4 else [answer])}

    eventually(lambda: NOBODY not in found())  # the topic that coordinators keep is made when first asked for
    assert found() <= local_addresses(proxy3)


def test_clients_stay_behind_the_proxy(kafka3: Cluster, proxy3: Proxy, topic: str):
    """Work on all three nodes opens no connection to a broker: seen in the tables of the system, not in answers."""
    kafka3.create_topic(topic, partitions=6, replication=3)
    sent = [Record(value=b"%d" % n, partition=n % 6, timestamp=T) for n in range(600)]
    librdkafka_produce(proxy3.bootstrap, topic, sent)
    assert librdkafka_read(proxy3.bootstrap, topic) == numbered(sent)
    reach = ("--bootstrap-server", proxy3.bootstrap, "--topic", topic)
    with java.start_java_tool(java.VERIFIABLE_CONSUMER, *reach, "--group-id", uuid.uuid4().hex) as consumer:
        consumer.lines.wait_for("offsets_committed", SECONDS)
        remote = {each.raddr.port for each in psutil.Process(consumer.pid).net_connections() if each.raddr}
    assert remote
    assert remote <= set(range(proxy3.port, proxy3.port + 1 + BROKER_PORTS))
    ours = {each.raddr.port for each in psutil.Process().net_connections() if each.raddr}
    assert not ours & {node.port for node in kafka3.nodes}


def move_leaders(cluster: Cluster, topic: str, partitions: int) -> None:
    """Give each partition a new first replica and make it the leader, as an operator would."""
    admin = {"topic": topic, "partitions": []}
    for index in range(partitions):
        replicas = [(index + step) % 3 for step in (2, 0, 1)]
        admin["partitions"].append({"partition_index": index, "replicas": replicas})
    admin = {"name": topic, "partitions": admin["partitions"]}
    with RawClient(cluster.internal_bootstrap.split(",")[0]) as client:
        answer = client.ask(ALTER_PARTITION_REASSIGNMENTS, 0, {"timeout": 30_000, "topics": [admin]})
        assert answer.error_code == 0
    election = ("--bootstrap-server", cluster.internal_bootstrap, "--election-type", "PREFERRED")
    java.java_tool(LEADER_ELECTION, *election, "--all-topic-partitions")


def test_a_leader_that_moves(kafka3: Cluster, proxy3: Proxy, topic: str):
    """A producer that asks the old leader is told of the new one (KIP-951) by its local address."""
    kafka3.create_topic(topic, partitions=3, replication=3)
    reach = ("--bootstrap-server", proxy3.bootstrap, "--topic", topic)
    with java.start_java_tool(java.VERIFIABLE_PRODUCER, *reach, "--throughput", "500", "--acks", "-1") as producer:
        producer.lines.wait_for("producer_send_success", SECONDS)
        move_leaders(kafka3, topic, 3)
        enough = len(producer.lines.so_far()) + 1000
        next(line for number, line in enumerate(producer.lines.read(SECONDS)) if number > enough)
        remote = {each.raddr.port for each in psutil.Process(producer.pid).net_connections() if each.raddr}
        producer.stop()
    assert remote <= set(range(proxy3.port, proxy3.port + 1 + BROKER_PORTS))
    acknowledged = [line for line in producer.lines.so_far() if "producer_send_success" in line]
    assert len(librdkafka_read(proxy3.bootstrap, topic)) >= len(acknowledged)


def test_java_administration(kafka3: Cluster, proxy3: Proxy, topic: str):
    """kafka-topics.sh, kafka-configs.sh and kafka-delete-records.sh."""
    server = ("--bootstrap-server", proxy3.bootstrap)
    flags = ("--create", "--topic", topic, "--partitions", "2", "--replication-factor", "3")
    java.java_tool(java.TOPICS, *server, *flags)
    eventually(lambda: partitions_everywhere(kafka3, topic) == {2})
    described = java.java_tool(java.TOPICS, *server, "--describe", "--topic", topic).stdout
    assert "PartitionCount: 2" in described
    assert "Isr: " in described
    change = ("--entity-type", "topics", "--entity-name", topic, "--alter", "--add-config", "retention.ms=1234567")
    java.java_tool(java.CONFIGS, *server, *change)
    eventually(lambda: kafka3.topic_config(topic)["retention.ms"] == "1234567")
    assert topic in java.java_tool(java.TOPICS, *server, "--list").stdout.split()
    java.java_tool(java.TOPICS, *server, "--delete", "--topic", topic)
    eventually(lambda: partitions_everywhere(kafka3, topic) == {0})
    assert topic not in java.java_tool(java.TOPICS, *server, "--list").stdout.split()
