"""Every client's way to look up offsets by time, on a plain topic and on the sealed one with the same content."""

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as AiokafkaPartition
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.support import java
from tests.support.clients import aiokafka, librdkafka
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy
from tests.support.twins import PARTITIONS, twin_topics

T = 1_700_000_000_000
ZSTD = 4
SECONDS = 30.0


@pytest.fixture
def timed(kafka: Cluster, proxy: Proxy, topic: str) -> list[tuple[str, str]]:
    """Where to look, and for which topic: (address, topic), plain and sealed."""
    with twin_topics(kafka, proxy.bootstrap, topic) as twins:
        twins.create()
        for partition in range(PARTITIONS):
            for number in range(3):
                stamps = [T + 100 * number + 10 * (each % 5) + partition for each in range(20)]
                twins.produce(partition, stamps, ZSTD)
    return [(kafka.bootstrap, twins.plain), (proxy.bootstrap, twins.sealed)]


def times() -> dict[int, int]:
    """One in the middle of a batch for each partition, and one beyond the end."""
    return {partition: T + 100 * (partition % 3) + 15 for partition in range(PARTITIONS - 1)} | {5: T + 999}


def test_librdkafka(timed: list[tuple[str, str]]):
    found = []
    for bootstrap, name in timed:
        consumer = Consumer(librdkafka(bootstrap, group_id="times"))
        wanted = [TopicPartition(name, partition, stamp) for partition, stamp in times().items()]
        found.append([(each.partition, each.offset) for each in consumer.offsets_for_times(wanted, SECONDS)])
        consumer.close()
    assert found[0] == found[1]
    assert found[0] == [(0, 2), (1, 22), (2, 42), (3, 2), (4, 22), (5, -1)]


def test_librdkafka_admin(timed: list[tuple[str, str]]):
    found = []
    for bootstrap, name in timed:
        admin = AdminClient({"bootstrap.servers": bootstrap})
        specs = {TopicPartition(name, partition): OffsetSpec.for_timestamp(at) for partition, at in times().items()}
        specs[TopicPartition(name, 0)] = OffsetSpec.max_timestamp()
        answers = {place.partition: future.result(SECONDS) for place, future in admin.list_offsets(specs).items()}
        found.append({index: (each.offset, each.timestamp, each.leader_epoch) for index, each in answers.items()})
    assert found[0] == found[1]
    assert found[0][0] == (44, T + 240, 0)


async def test_aiokafka(timed: list[tuple[str, str]]):
    found = []
    for bootstrap, name in timed:
        async with AIOKafkaConsumer(**aiokafka(bootstrap)) as consumer:
            wanted = {AiokafkaPartition(name, partition): stamp for partition, stamp in times().items()}
            answers = await consumer.offsets_for_times(wanted)
            found.append({place.partition: each and each.offset for place, each in answers.items()})
    assert found[0] == found[1]
    assert found[0] == {0: 2, 1: 22, 2: 42, 3: 2, 4: 22, 5: None}


@pytest.mark.parametrize("at", [str(T + 115), "max-timestamp", "latest"])
def test_java(timed: list[tuple[str, str]], at: str):
    plain, sealed = (
        java.java_tool(java.GET_OFFSETS, "--bootstrap-server", bootstrap, "--topic", name, "--time", at).stdout
        for bootstrap, name in timed
    )
    assert sealed.replace("-sealed:", "-plain:") == plain
    assert len(plain.splitlines()) == PARTITIONS
