"""librdkafka, aiokafka and KafkaJS: the same calls directly and through the proxy, compared one by one."""

import random
import uuid
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin import NewTopic as AioTopic
from confluent_kafka import Consumer, Message, Producer, TopicCollection
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from confluent_kafka.admin import ScramCredentialInfo as Scram

from tests.support.call_log import CallLog
from tests.support.clients import librdkafka
from tests.support.kafka import Cluster
from tests.support.kafkajs import kafkajs_calls
from tests.support.proxy import Proxy

SECONDS = 60.0
T = 1_700_000_000_000
RANDOM = random.Random(1).randbytes(2_000_000)


def answer(future: Any) -> Any:
    """The result of one of librdkafka's futures, or the only one of a mapping."""
    return (next(iter(future.values())) if isinstance(future, dict) else future).result(SECONDS)


def librdkafka_administration(bootstrap: str, name: str) -> list[str]:
    log = CallLog(name)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    call = log.call
    call("create", lambda: answer(admin.create_topics([NewTopic(name, 2, 1)], operation_timeout=SECONDS)))
    call("create again", lambda: answer(admin.create_topics([NewTopic(name, 2, 1)])))
    for partitions, replicas, config in ((0, 1, {}), (1, 3, {}), (1, 1, {"retention.ms": "much"})):
        bad = NewTopic(f"{name}-bad", partitions, replicas, config=config)
        call("create badly", lambda bad=bad: answer(admin.create_topics([bad])))
    call("fewer partitions", lambda: answer(admin.create_partitions([NewPartitions(name, 1)])))

    def described() -> list[Any]:
        topic = answer(admin.describe_topics(TopicCollection([name])))
        return [(each.id, each.leader.id, [node.id for node in each.isr]) for each in topic.partitions]

    call("describe", described)
    call("describe nothing", lambda: answer(admin.describe_topics(TopicCollection([f"{name}-none"]))))
    for kind, which in ((ResourceType.TOPIC, name), (ResourceType.BROKER, "0"), (ResourceType.TOPIC, f"{name}-none")):
        resource = ConfigResource(kind, which)

        def settings(resource: ConfigResource = resource) -> list[str]:
            found = answer(admin.describe_configs([resource]))
            return sorted(f"{key}={entry.value} {entry.source} {entry.is_read_only}" for key, entry in found.items())

        call("settings", settings)
    for value in ("1000000", "soon"):
        change = ConfigEntry("retention.ms", value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[change])
        call("change", lambda resource=resource: answer(admin.incremental_alter_configs([resource])))
    for spec in (OffsetSpec.earliest(), OffsetSpec.latest(), OffsetSpec.max_timestamp(), OffsetSpec.for_timestamp(T)):
        call("offset", lambda spec=spec: answer(admin.list_offsets({Place(name, 0): spec})).offset)
    weak = UserScramCredentialUpsertion(name, Scram(ScramMechanism.SCRAM_SHA_256, 1), b"secret")
    call("weak user", lambda: answer(admin.alter_user_scram_credentials([weak])))
    call("delete", lambda: answer(admin.delete_topics([name], operation_timeout=SECONDS)))
    call("delete again", lambda: answer(admin.delete_topics([name])))
    return log.lines


def librdkafka_clients(bootstrap: str, name: str) -> list[str]:
    """Deliveries and their errors, transactions with fencing, and what a consumer sees of it."""
    log = CallLog(name)

    def delivered(error: Any, message: Message) -> None:
        place = f"{message.partition()}@{message.offset()} {message.timestamp()} {message.latency() is not None}"
        log.say(f"delivery: {error.name() if error else place}")

    plain = Producer(librdkafka(bootstrap, message_max_bytes=3_000_000))
    for value, key in ((b"one", b"k"), (b"", b""), (None, None), (RANDOM, None), (b"after that", None)):
        plain.produce(name, value, key, 0, timestamp=T, on_delivery=delivered)
        assert plain.flush(SECONDS) == 0
    first, second = (Producer(librdkafka(bootstrap, transactional_id=name)) for _ in range(2))
    first.init_transactions(SECONDS)
    for end in (first.commit_transaction, first.abort_transaction):
        first.begin_transaction()
        for number in range(10):
            first.produce(name, b"%d" % number, partition=1, timestamp=T + number)
        assert first.flush(SECONDS) == 0
        log.call(end.__name__, lambda end=end: end(SECONDS))
    first.begin_transaction()
    first.produce(name, b"open", partition=1, timestamp=T, on_delivery=delivered)
    assert first.flush(SECONDS) == 0
    log.call("init", lambda: second.init_transactions(SECONDS))
    log.call("fenced commit", lambda: first.commit_transaction(SECONDS))
    log.call("begin after that", first.begin_transaction)
    second.begin_transaction()
    second.produce(name, b"second", partition=1, timestamp=T)
    log.call("the second", lambda: second.commit_transaction(SECONDS))
    log.call("init again", lambda: Producer(librdkafka(bootstrap, transactional_id=name)).init_transactions(SECONDS))
    for level, count in (("read_committed", 15), ("read_uncommitted", 26)):
        read_as(log, bootstrap, name, level, count)
    return log.lines


def read_as(log: CallLog, bootstrap: str, name: str, level: str, count: int) -> None:
    """What a consumer is told that reads everything."""
    settings = {"group_id": f"{name}-{level}", "auto_offset_reset": "earliest", "isolation_level": level}
    settings |= {"enable_auto_commit": False}
    consumer = Consumer(librdkafka(bootstrap, message_max_bytes=3_000_000, **settings))
    consumer.assign([Place(name, 0, 0), Place(name, 1, 0)])
    found = sorted((m.partition(), m.offset(), m.value(), m.timestamp()) for m in consumer.consume(count, SECONDS))
    log.say(f"{level}: {len(found)} {found}")
    log.call("ends", lambda: [consumer.get_watermark_offsets(Place(name, index)) for index in (0, 1)])
    log.call("commit", lambda: consumer.commit(offsets=[Place(name, 1, 3)], asynchronous=False))
    log.call("committed", lambda: [each.offset for each in consumer.committed([Place(name, 1), Place(name, 0)])])
    log.call("by time", lambda: [each.offset for each in consumer.offsets_for_times([Place(name, 0, T)])])
    consumer.close()


async def aiokafka_calls(bootstrap: str, name: str) -> list[str]:
    """Administration, and transactions with fencing."""
    log = CallLog(name)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        for _ in range(2):
            await log.ask("create", lambda: admin.create_topics([AioTopic(name, 2, 1)]))
        await log.ask("create badly", lambda: admin.create_topics([AioTopic(f"{name}-bad", 1, 3)]))
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=name) as first:
            for end in (first.commit_transaction, first.abort_transaction):
                await first.begin_transaction()
                for number in range(10):
                    await first.send_and_wait(name, b"%d" % number, partition=0, timestamp_ms=T)
                await log.ask(end.__name__, end)
            await first.begin_transaction()
            await log.ask("open", lambda: first.send_and_wait(name, b"open", partition=0, timestamp_ms=T))
            async with AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=name) as second:
                await log.ask("fenced", lambda: first.send_and_wait(name, b"late", partition=0, timestamp_ms=T))
                await log.ask("fenced commit", first.commit_transaction)
                await second.begin_transaction()
                await log.ask("second", lambda: second.send_and_wait(name, b"2", partition=0, timestamp_ms=T))
                await log.ask("its commit", second.commit_transaction)
        await log.ask("groups", lambda: admin.list_consumer_group_offsets(name))
        for _ in range(2):
            await log.ask("delete", lambda: admin.delete_topics([name]))
    finally:
        await admin.close()
    return log.lines


@pytest.fixture
def names() -> tuple[str, str]:
    """Names of one length for the direct and the proxied run."""
    return (f"calls-{uuid.uuid4().hex}", f"calls-{uuid.uuid4().hex}")


@pytest.mark.parametrize("proxy", ["auto"], indirect=True)
def test_librdkafka_administration(kafka: Cluster, proxy: Proxy, names: tuple[str, str]):
    direct = librdkafka_administration(kafka.bootstrap, names[0])
    assert librdkafka_administration(proxy.bootstrap, names[1]) == direct
    assert len([line for line in direct if " failed: " in line]) == 10, direct


@pytest.mark.parametrize("proxy", ["auto", "record"], indirect=True)
def test_librdkafka_clients(kafka: Cluster, proxy: Proxy, names: tuple[str, str]):
    for name in names:
        kafka.create_topic(name, 2)
    direct = librdkafka_clients(kafka.bootstrap, names[0])
    assert librdkafka_clients(proxy.bootstrap, names[1]) == direct
    assert [line for line in direct if line.startswith("fenced commit failed: _FENCED")], direct
    assert [line.split(" ")[1] for line in direct if line.startswith("read_")] == ["15", "26"]


@pytest.mark.parametrize("proxy", ["auto", "record"], indirect=True)
async def test_aiokafka(kafka: Cluster, proxy: Proxy, names: tuple[str, str]):
    direct = await aiokafka_calls(kafka.bootstrap, names[0])
    assert await aiokafka_calls(proxy.bootstrap, names[1]) == direct
    assert "fenced failed: ProducerFenced" in direct


@pytest.mark.parametrize("proxy", ["auto", "record"], indirect=True)
def test_kafkajs(kafka: Cluster, proxy: Proxy, names: tuple[str, str]):
    direct, proxied = (
        [line.replace(name, "NAME") for line in kafkajs_calls(bootstrap, name)]
        for bootstrap, name in zip((kafka.bootstrap, proxy.bootstrap), names, strict=True)
    )
    assert proxied == direct
    assert "fenced commit failed: KafkaJSProtocolError INVALID_PRODUCER_EPOCH" in direct
