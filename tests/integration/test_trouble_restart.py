"""The proxy ends in the middle and is started again, on the same ports or others: clients recover by themselves."""

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.support import java
from tests.support.kafka import Cluster, Security
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import ConnectionClosedError, RawClient, batch
from tests.support.security import login
from tests.support.steady import check_exact, read_all, steady_consumer, steady_producer
from tests.support.tampering import tampering_relay

PARTITIONS = 3
SECONDS = 60.0


@pytest.fixture
def proxy(kafka3: Cluster) -> Iterator[Proxy]:
    with kveil_proxy(",".join(kafka3.bootstrap_servers)) as running:
        yield running


def restart(proxy: Proxy) -> None:
    proxy.kill()
    proxy.start()


def test_librdkafka(kafka3: Cluster, proxy: Proxy, topic: str):
    kafka3.create_topic(topic, partitions=PARTITIONS, replication=3)
    with (
        steady_producer(proxy.bootstrap, topic, partitions=PARTITIONS) as producer,
        steady_consumer(proxy.bootstrap, topic) as consumer,
    ):
        for _ in range(2):
            producer.wait_for_more(300)
            restart(proxy)
        producer.wait_for_more(300)
        sent = producer.finish()
        consumer.wait_for(sent)
        check_exact(consumer.values, sent)  # it was in the group all the time, so it read nothing twice either
    check_exact(read_all(proxy.bootstrap, topic, PARTITIONS), sent)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
def test_with_sasl_passing_through(kafka_sasl: Cluster, topic: str, mechanism: str):
    """The proxy has no login of its own: it can't ask who is behind a port before a client has logged in."""
    kafka_sasl.create_topic(topic)
    ca = {"ca": str(kafka_sasl.certificates.authority.path)}
    with kveil_proxy(kafka_sasl.bootstrap, tls=ca) as proxy:
        settings = kafka_sasl.client_settings(
            login("alice", mechanism), bootstrap=proxy.bootstrap, security=Security.SASL_PLAINTEXT
        )
        given = {name.replace(".", "_"): value for name, value in settings.items() if name != "bootstrap.servers"}
        with (
            steady_producer(proxy.bootstrap, topic, **given) as producer,
            steady_consumer(proxy.bootstrap, topic, **given) as consumer,
        ):
            producer.wait_for_more(300)
            restart(proxy)
            producer.wait_for_more(300)
            sent = producer.finish()
            consumer.wait_for(sent)
            check_exact(consumer.values, sent)
        check_exact(read_all(proxy.bootstrap, topic, **given), sent)


def test_java_that_never_goes_back(kafka3: Cluster, proxy: Proxy, topic: str):
    """It bootstraps over an address that is gone afterwards, so the brokers' ports are all it has."""
    kafka3.create_topic(topic, partitions=PARTITIONS, replication=3)
    settings = {"metadata.recovery.strategy": "none", "enable.idempotence": "true", "retries": "2147483647"}
    with java.properties_file(settings) as config, tampering_relay(proxy.bootstrap) as entrance:
        reach = ("--bootstrap-server", entrance.address, "--topic", topic, "--command-config", config)
        with (
            java.start_java_tool(java.VERIFIABLE_CONSUMER, *reach, "--group-id", topic) as consumer,
            java.start_java_tool(java.VERIFIABLE_PRODUCER, *reach, "--throughput", "1000") as producer,
        ):
            consumer.lines.wait_for("records_consumed", SECONDS)
            entrance.close()
            restart(proxy)
            total = finish(producer, more=1000)
            wait_for_consumed(consumer, total)
    stored = read_all(proxy.bootstrap, topic, PARTITIONS)
    assert sorted(value for values in stored.values() for value in values) == list(range(total))
    assert all(values == sorted(values) for values in stored.values())


def finish(producer: java.Child, more: int) -> int:
    """Wait for acknowledgements of records that are sent from now on, end it, and return how many it has got."""
    target = more + sum("producer_send_success" in line for line in producer.lines.so_far())
    seen = 0
    for line in producer.lines.read(SECONDS):
        seen += "producer_send_success" in line
        if seen >= target:
            break
    producer.stop()
    events = [json.loads(line) for line in producer.lines.so_far() if line.startswith("{")]
    assert not [event for event in events if event["name"] == "producer_send_error"]
    acknowledged = Counter(event["value"] for event in events if event["name"] == "producer_send_success")
    assert max(acknowledged.values()) == 1
    return len(acknowledged)


def wait_for_consumed(consumer: java.Child, total: int) -> None:
    read = 0
    for line in consumer.lines.read(SECONDS):
        event = json.loads(line) if line.startswith("{") else {}
        read += event.get("count", 0) if event.get("name") == "records_consumed" else 0
        if read >= total:
            return


async def test_aiokafka_without_its_bootstrap_address(kafka3: Cluster, proxy: Proxy, topic: str):
    kafka3.create_topic(topic, partitions=PARTITIONS, replication=3)
    with tampering_relay(proxy.bootstrap) as entrance:
        async with (
            AIOKafkaProducer(bootstrap_servers=entrance.address, enable_idempotence=True) as producer,
            AIOKafkaConsumer(
                topic, bootstrap_servers=entrance.address, auto_offset_reset="earliest", group_id=uuid.uuid4().hex
            ) as consumer,
        ):
            for number in range(30):
                await producer.send_and_wait(topic, b"%d" % number, partition=number % PARTITIONS)
            entrance.close()
            await asyncio.to_thread(restart, proxy)
            for number in range(30, 60):
                await producer.send_and_wait(topic, b"%d" % number, partition=number % PARTITIONS)
            async with asyncio.timeout(SECONDS):
                got = [int((await consumer.getone()).value) for _ in range(60)]
    assert sorted(got) == list(range(60))


def test_ports_before_their_brokers_are_known(kafka3: Cluster, proxy: Proxy, topic: str):
    """Step by step: a guest may ask where the brokers are, nothing else; then the port leads to its own broker."""
    kafka3.create_topic(topic, partitions=PARTITIONS, replication=3)
    with RawClient(proxy.bootstrap) as client:
        leaders = client.leaders(topic, PARTITIONS)
    restart(proxy)
    partition, node = next((index, leader) for index, leader in enumerate(leaders) if leader != 0)
    port = f"127.0.0.1:{proxy.port + 1 + node}"
    with RawClient(port) as client:
        client.send_produce({topic: {partition: batch([b"too early"])}})
        with pytest.raises(ConnectionClosedError):
            client.receive_frame()
    assert f"node {node}" in proxy.wait_for_event("connection_closed")["reason"]
    with RawClient(port) as client:
        brokers = {each.node_id: each.port for each in client.metadata(topic).brokers}
        assert brokers == {each: proxy.port + 1 + each for each in range(3)}
        assert client.is_closed_by_peer()  # another broker has answered for this one: not a byte more through it
    with RawClient(port) as client:
        assert client.produce({topic: {partition: batch([b"now"])}}) == {(topic, partition): (0, 0)}
        assert client.fetch(topic, partition).values == [(0, b"now")]


@contextmanager
def moving_proxy(kafka3: Cluster) -> Iterator[tuple[Proxy, str]]:
    """A proxy, and both the bootstrap addresses that it has one after the other."""
    with kveil_proxy(
        ",".join(kafka3.bootstrap_servers), broker_ports=7, config={"broker_ports": {"count": 3}}
    ) as proxy:
        yield proxy, f"{proxy.bootstrap},127.0.0.1:{proxy.port + 4}"


def move(proxy: Proxy) -> None:
    """Start it again so that not one port is what it was."""
    proxy.stop()
    proxy.config["listeners"] = [{"address": f"127.0.0.1:{proxy.port + 4}"}]
    proxy.start()


def test_brokers_behind_other_ports(kafka3: Cluster, topic: str):
    """None of the brokers that clients know answers any more: they rebootstrap (KIP-899)."""
    kafka3.create_topic(topic, partitions=PARTITIONS, replication=3)
    with (
        moving_proxy(kafka3) as (proxy, bootstrap),
        steady_producer(bootstrap, topic, partitions=PARTITIONS, metadata_recovery_strategy="rebootstrap") as producer,
        steady_consumer(bootstrap, topic, metadata_recovery_strategy="rebootstrap") as consumer,
    ):
        producer.wait_for_more(200)
        move(proxy)
        producer.wait_for_more(200)
        sent = producer.finish()
        consumer.wait_for(sent)
        check_exact(consumer.values, sent)


def test_java_finds_brokers_behind_other_ports(kafka3: Cluster, topic: str):
    """It begins anew by itself, after a time that can be set (KIP-1102)."""
    kafka3.create_topic(topic, partitions=PARTITIONS, replication=3)
    settings = {"metadata.recovery.strategy": "rebootstrap", "metadata.recovery.rebootstrap.trigger.ms": "1000"}
    settings |= {"enable.idempotence": "true", "retries": "2147483647"}
    with moving_proxy(kafka3) as (proxy, bootstrap), java.properties_file(settings) as config:
        reach = ("--bootstrap-server", bootstrap, "--topic", topic, "--command-config", config)
        with (
            java.start_java_tool(java.VERIFIABLE_CONSUMER, *reach, "--group-id", topic) as consumer,
            java.start_java_tool(java.VERIFIABLE_PRODUCER, *reach, "--throughput", "500") as producer,
        ):
            consumer.lines.wait_for("records_consumed", SECONDS)
            move(proxy)
            total = finish(producer, more=500)
            wait_for_consumed(consumer, total)
        stored = read_all(bootstrap, topic, PARTITIONS)
    assert sorted(value for values in stored.values() for value in values) == list(range(total))
