"""Brokers that stop, crash and come back while clients work through the proxy."""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import java
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import RawClient
from tests.support.steady import check_exact, read_all, steady_consumer, steady_producer

PARTITIONS = 3
SECONDS = 60.0
SAFE = {"min.insync.replicas": 2}


@pytest.fixture(scope="module")
def proxy(kafka3: Cluster) -> Iterator[Proxy]:
    with kveil_proxy(",".join(kafka3.bootstrap_servers)) as running:
        yield running


def leaders(kafka3: Cluster, topic: str, partitions: int = PARTITIONS) -> list[int]:
    """Past the proxy, from a broker that runs."""
    with RawClient(next(node.address for node in kafka3.nodes if node.running)) as client:
        return client.leaders(topic, partitions)


@pytest.mark.parametrize("end", ["stop_node", "kill_node"])
def test_librdkafka_over_a_broker_restart(kafka3: Cluster, proxy: Proxy, topic: str, end: str):
    """Leaders move away and the broker comes back: nothing lost or doubled, order kept, and consumers go on."""
    kafka3.create_topic(topic, partitions=PARTITIONS, replication=3, config=SAFE)
    down = leaders(kafka3, topic)[0]
    with (
        steady_producer(proxy.bootstrap, topic, partitions=PARTITIONS) as producer,
        steady_consumer(proxy.bootstrap, topic) as consumer,
    ):
        producer.wait_for_more(500)
        getattr(kafka3, end)(down)
        producer.wait_for_more(500)
        assert leaders(kafka3, topic)[0] != down
        kafka3.start_node(down)
        producer.wait_for_more(500)
        sent = producer.finish()
        consumer.wait_for(sent)
        assert {partition: sorted(set(values)) for partition, values in consumer.values.items()} == {
            partition: list(range(partition, sent, PARTITIONS)) for partition in range(PARTITIONS)
        }
    check_exact(read_all(proxy.bootstrap, topic, PARTITIONS), sent)


def test_java_over_a_broker_restart(kafka3: Cluster, proxy: Proxy, topic: str):
    kafka3.create_topic(topic, partitions=PARTITIONS, replication=3, config=SAFE)
    down = leaders(kafka3, topic)[0]
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic)
    settings = {"enable.idempotence": "true", "retries": "2147483647", "acks": "all"}
    with (
        java.properties_file(settings) as config,
        java.start_java_tool(java.VERIFIABLE_CONSUMER, *reach, "--group-id", topic) as consumer,
        java.start_java_tool(
            java.VERIFIABLE_PRODUCER, *reach, "--throughput", "1000", "--command-config", config
        ) as producer,
    ):
        consumer.lines.wait_for("records_consumed", SECONDS)
        kafka3.stop_node(down)
        wait_for_sends(producer, 1000)
        kafka3.start_node(down)
        wait_for_sends(producer, 1000)
        producer.stop()
        events = [json.loads(line) for line in producer.lines.so_far() if line.startswith("{")]
        acknowledged = Counter(event["value"] for event in events if event["name"] == "producer_send_success")
        assert not [event for event in events if event["name"] == "producer_send_error"]
        assert max(acknowledged.values()) == 1
        total = len(acknowledged)
        wait_for_consumed(consumer, total)
    stored = read_all(proxy.bootstrap, topic, PARTITIONS)
    assert sorted(value for values in stored.values() for value in values) == list(range(total))
    assert all(values == sorted(values) for values in stored.values())


def wait_for_sends(producer: java.Child, more: int) -> None:
    """Wait for so many acknowledgements of records that are sent from now on."""
    sends = sum("producer_send_success" in line for line in producer.lines.so_far())
    seen = 0
    for line in producer.lines.read(SECONDS):
        seen += "producer_send_success" in line
        if seen >= sends + more:
            return


def wait_for_consumed(consumer: java.Child, total: int) -> None:
    """Wait until the group has read that many: it may have read some twice, never less."""
    read = 0
    for line in consumer.lines.read(SECONDS):
        event = json.loads(line) if line.startswith("{") else {}
        read += event.get("count", 0) if event.get("name") == "records_consumed" else 0
        if read >= total:
            return


def test_leader_that_moves_without_a_restart(kafka3: Cluster, proxy: Proxy, topic: str):
    """A preferred leader election while clients run: what a rolling upgrade does all the time."""
    kafka3.create_topic(topic, partitions=1, replication=3, config=SAFE)
    first = leaders(kafka3, topic, 1)[0]
    with steady_producer(proxy.bootstrap, topic) as producer, steady_consumer(proxy.bootstrap, topic) as consumer:
        producer.wait_for_more(300)
        kafka3.stop_node(first)
        producer.wait_for_more(100)
        kafka3.start_node(first)
        elect = ("--bootstrap-server", kafka3.bootstrap, "--election-type", "PREFERRED", "--all-topic-partitions")
        java.java_tool("org.apache.kafka.tools.LeaderElectionCommand", *elect)
        assert leaders(kafka3, topic, 1)[0] == first
        producer.wait_for_more(300)
        sent = producer.finish()
        consumer.wait_for(sent)
    check_exact(read_all(proxy.bootstrap, topic), sent)


def test_all_brokers_restart(kafka3: Cluster, proxy: Proxy, topic: str):
    """For a while there is nobody behind the proxy; clients wait and go on."""
    kafka3.create_topic(topic, partitions=PARTITIONS, replication=3, config=SAFE)
    with (
        steady_producer(proxy.bootstrap, topic, partitions=PARTITIONS) as producer,
        steady_consumer(proxy.bootstrap, topic) as consumer,
    ):
        producer.wait_for_more(200)
        for node in range(3):
            kafka3.kill_node(node)
        kafka3.start()
        producer.wait_for_more(200)
        sent = producer.finish()
        consumer.wait_for(sent)
    check_exact(read_all(proxy.bootstrap, topic, PARTITIONS), sent)


@pytest.mark.broker
def test_upstream_down_at_start(topic: str):
    """The ports answer, clients are sent away, and recover by themselves once the broker is there."""
    with kafka_cluster() as kafka, kveil_proxy(kafka.bootstrap, start=False) as proxy:
        kafka.create_topic(topic)
        kafka.stop_node(0)
        proxy.start()
        with RawClient(proxy.bootstrap) as client:
            assert client.is_closed_by_peer()
        line = proxy.wait_for_event("upstream_unreachable")
        assert kafka.bootstrap in line["reason"]
        with (
            steady_producer(proxy.bootstrap, topic) as producer,
            steady_consumer(proxy.bootstrap, topic) as consumer,
            ThreadPoolExecutor(1) as pool,
        ):
            started = pool.submit(kafka.start_node, 0)
            producer.wait_for_more(100)
            started.result()
            sent = producer.finish()
            consumer.wait_for(sent)
        check_exact(read_all(proxy.bootstrap, topic), sent)
        assert len(proxy.events("upstream_unreachable")) < 10  # one cause, limited lines
