"""Followers that serve consumers, and answers that name a new leader, as without a proxy."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Place

from kveil.protocol.kafka.api_table import ApiKey
from tests.conftest import RACKS
from tests.support import java
from tests.support.clients import Record, librdkafka, librdkafka_produce
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import RawClient, batch
from tests.support.waiting import wait_until

SECONDS = 60.0
NOT_LEADER = 6
PREFERRED_REPLICA_VERSION = 11


@pytest.fixture(scope="module")
def proxy(kafka3: Cluster) -> Iterator[Proxy]:
    with kveil_proxy(",".join(kafka3.bootstrap_servers)) as running:
        yield running


def port_of(proxy: Proxy, node: int) -> str:
    return f"127.0.0.1:{proxy.port + 1 + node}"


def ways(kafka3: Cluster, proxy: Proxy, topic: str, *, replication: int) -> list[tuple[str, list[str]]]:
    """Two topics, and the nodes' addresses by which each is reached."""
    with RawClient(proxy.bootstrap) as client:
        client.metadata()  # names the nodes, whose ports lead to them from then on
    found = []
    for name, nodes in (
        (f"{topic}-direct", kafka3.bootstrap_servers),
        (f"{topic}-sealed", [port_of(proxy, node) for node in range(3)]),
    ):
        kafka3.create_topic(name, partitions=3, replication=replication)
        found.append((name, nodes))
    return found


def partition_led_by(address: str, topic: str, node: int) -> int:
    with RawClient(address) as client:
        return client.leaders(topic, 3).index(node)


# Followers -----------------------------------------------------------------------------------------------------------


def test_a_follower_is_preferred(kafka3: Cluster, proxy: Proxy, topic: str):
    """The leader names the follower of the consumer's rack (KIP-392), which then hands out the records."""
    seen = []
    for name, nodes in ways(kafka3, proxy, topic, replication=3):
        partition = partition_led_by(proxy.bootstrap, name, 0)
        records = {name: {partition: batch([b"one", b"two"], timestamp_ms=1_700_000_000_000)}}
        with RawClient(nodes[0]) as leader, RawClient(nodes[2]) as follower:
            assert leader.produce(records)[name, partition] == (0, 0)
            wait_until(lambda: ask_leader(leader, name, partition, "rack-2")[0] == 2)  # noqa: B023 - at once
            preferred = [ask_leader(leader, name, partition, rack) for rack in (*RACKS, "", "elsewhere")]
            asked = {"version": PREFERRED_REPLICA_VERSION, "rack_id": "rack-2"}
            wait_until(lambda: bool(follower.fetch(name, partition, **asked).records))  # noqa: B023 - it lags behind
            given = follower.fetch(name, partition, **asked)
        seen.append((preferred, given))
    assert seen[1] == seen[0]
    assert seen[0][0] == [(-1, True), (1, False), (2, False), (-1, True), (-1, True)]
    assert given.values == [(0, b"one"), (1, b"two")]


def ask_leader(leader: RawClient, topic: str, partition: int, rack: str) -> tuple[int, bool]:
    """The replica that the leader would have the client read from, and whether it hands out records all the same."""
    leader.send_fetch({topic: {partition: 0}}, version=PREFERRED_REPLICA_VERSION, rack_id=rack)
    (found,) = leader.receive(ApiKey.FETCH, PREFERRED_REPLICA_VERSION).responses[0].partitions
    return found.preferred_read_replica, bool(found.records)


def test_a_consumer_reads_from_its_rack(kafka3: Cluster, proxy: Proxy, topic: str):
    """librdkafka tells in its statistics which broker it fetches from."""
    kafka3.create_topic(topic, replication=3)
    librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"%d" % number) for number in range(100)])
    with RawClient(kafka3.bootstrap) as direct:
        (leader,) = direct.leaders(topic, 1)
    wanted = (leader + 1) % 3
    brokers: set[int] = set()

    def note(text: str) -> None:
        partitions = json.loads(text)["topics"].get(topic, {}).get("partitions", {})
        brokers.update(each["broker"] for key, each in partitions.items() if key == "0")

    settings = librdkafka(proxy.bootstrap, group_id=topic, client_rack=RACKS[wanted], statistics_interval_ms=50)
    consumer = Consumer({**settings, "stats_cb": note})
    values: list[bytes | None] = []

    def read_some() -> bool:
        values.extend(message.value() for message in consumer.consume(100, 0.1))
        return len(values) >= 200 and wanted in brokers

    try:
        consumer.assign([Place(topic, 0, 0)])
        wait_until(lambda: read_some() or len(values) >= 100)
        librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"%d" % number) for number in range(100, 200)])
        wait_until(read_some)
    finally:
        consumer.close()
    assert values == [b"%d" % number for number in range(200)]


def test_java_reads_from_its_rack(kafka3: Cluster, proxy: Proxy, topic: str):
    kafka3.create_topic(topic, partitions=3, replication=3)
    sent = [Record(value=b"%d" % number, partition=number % 3) for number in range(300)]
    librdkafka_produce(proxy.bootstrap, topic, sent)
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic, "--from-beginning")
    limits = ("--max-messages", "300", "--timeout-ms", "30000", "--command-property", "client.rack=rack-1")
    lines = java.java_tool(java.CONSOLE_CONSUMER, *reach, *limits).stdout.splitlines()
    assert sorted(map(int, lines)) == list(range(300))


# Leaders that move ---------------------------------------------------------------------------------------------------


def hints(answer: Any, partition: Any) -> tuple[int, int, dict[int, tuple[str, int]]]:
    """Error, new leader, and where brokers are."""
    where = {each.node_id: (each.host, each.port) for each in answer.node_endpoints}
    return int(partition.error_code), partition.current_leader.leader_id, where


@pytest.mark.parametrize("version", [10, *(pytest.param(each, marks=pytest.mark.kafka4) for each in (12, 13))])
def test_produce_names_the_new_leader(kafka3: Cluster, proxy: Proxy, topic: str, version: int):
    """In the answer that says "not here" (KIP-951): with an address of the proxy."""
    seen = []
    for name, nodes in ways(kafka3, proxy, topic, replication=1):
        with RawClient(nodes[0]) as client:
            partition = client.leaders(name, 3).index(1)
            place = {"topic_id": client.metadata(name).topics[0].topic_id.bytes} if version >= 13 else {"name": name}
            data = [{**place, "partition_data": [{"index": partition, "records": batch([b"to the wrong one"])}]}]
            values = {"transactional_id": None, "acks": -1, "timeout": 10_000, "topic_data": data}
            answer = client.ask(ApiKey.PRODUCE, version, values)
        seen.append(hints(answer, answer.responses[0].partition_responses[0]))
    assert seen[0] == (NOT_LEADER, 1, {1: ("127.0.0.1", kafka3.nodes[1].port)})
    assert seen[1] == (NOT_LEADER, 1, {1: ("127.0.0.1", proxy.port + 2)})


@pytest.mark.parametrize("version", [16, 17])
def test_fetch_names_the_new_leader(kafka3: Cluster, proxy: Proxy, topic: str, version: int):
    seen = []
    for name, nodes in ways(kafka3, proxy, topic, replication=1):
        asked = {"fetch_offset": 0, "partition_max_bytes": 1000, "current_leader_epoch": 0}
        asked |= {"last_fetched_epoch": -1, "log_start_offset": -1}
        with RawClient(nodes[0]) as client:
            asked["partition"] = client.leaders(name, 3).index(1)
            topic_id = client.metadata(name).topics[0].topic_id.bytes
            values = {
                "max_wait": 100,
                "min_bytes": 1,
                "max_bytes": 1000,
                "session_epoch": -1,
                "topics": [{"topic_id": topic_id, "partitions": [asked]}],
            }
            answer = client.ask(ApiKey.FETCH, version, values)
        seen.append(hints(answer, answer.responses[0].partitions[0]))
    assert seen[0] == (NOT_LEADER, 1, {1: ("127.0.0.1", kafka3.nodes[1].port)})
    assert seen[1] == (NOT_LEADER, 1, {1: ("127.0.0.1", proxy.port + 2)})
