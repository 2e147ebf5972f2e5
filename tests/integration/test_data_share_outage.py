"""A share group while its keys can't be had: the broker counts no delivery, so nothing is archived (KIP-932)."""

import asyncio
import time
import uuid
from pathlib import Path

import pytest
from confluent_kafka import ShareConsumer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from kveil.proxy.context import Shared
from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable
from kveil.proxy.keys.providers.keyfile import KeyFileProvider
from kveil.proxy.net.accepting import Accepting
from kveil.proxy.server import Server
from tests.support.clients import Record, librdkafka, librdkafka_produce
from tests.support.conversation import BROKER_PORTS, make_shared
from tests.support.kafka import kafka_cluster
from tests.support.ports import reserved_port_range
from tests.support.proxy import kveil_proxy

pytestmark = [pytest.mark.broker, pytest.mark.kafka4]

LOCK_SECONDS = 1.0
DELIVERIES = 5
COUNT = 40
SECONDS = 60.0
LIMITS = {"refused_key_seconds": 1}


class Outage(KeyFileProvider):
    """A key file that is as far away as a key service: a time may come in which it doesn't answer, or says no."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(path)
        self.error: Exception | None = error
        self.asked = 0

    async def unwrap(self, block, context):
        self.asked += 1
        if self.error:
            raise self.error
        return await super().unwrap(block, context)


def poll(consumer: ShareConsumer, deadline: float, count: int) -> list[bytes | None]:
    """The values that come until there are enough, or until the deadline."""
    found: list[bytes | None] = []
    while len(found) < count and time.monotonic() < deadline:
        found += [message.value() for message in consumer.poll(0.2) if message.error() is None]
    return found


@pytest.mark.parametrize("error", [KeyUnavailable("it doesn't answer"), KeyDenied("the key is disabled")], ids=type)
async def test_five_lock_times_without_keys(tmp_path: Path, topic: str, error: Exception):
    settings = {
        "group.share.min.record.lock.duration.ms": 1000,
        "group.share.record.lock.duration.ms": int(LOCK_SECONDS * 1000),
        "group.share.delivery.count.limit": DELIVERIES,
    }
    with kafka_cluster(properties=settings) as kafka:
        kafka.create_topic(topic)
        with kveil_proxy(kafka.bootstrap) as producing:
            sent = [Record(value=b"%d" % number) for number in range(COUNT)]
            librdkafka_produce(producing.bootstrap, topic, sent, linger_ms=50, batch_num_messages=10)
            provider = Outage(producing.keys, error)
            with reserved_port_range(1 + BROKER_PORTS) as port:
                places = {
                    "listeners": [{"address": f"127.0.0.1:{port}"}],
                    "keys": {"path": str(producing.keys)},
                    "limits": LIMITS,
                }
                shared = make_shared(
                    tmp_path, upstream=kafka.bootstrap, provider=provider, clock=time.monotonic, **places
                )
                await consume_through(shared, provider, port, topic)


def group_from_the_beginning(bootstrap: str) -> str:
    name = uuid.uuid4().hex
    change = ConfigEntry("share.auto.offset.reset", "earliest", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.GROUP, name, incremental_configs=[change])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.incremental_alter_configs([resource])[resource].result(SECONDS)
    return name


async def consume_through(shared: Shared, provider: Outage, port: int, topic: str) -> None:
    """Poll during the outage and after it."""
    server = Server(shared)
    accepting = Accepting(shared.settings, shared.keys.realm)
    accepting.open()
    accepting.start(server.take)
    bootstrap = f"127.0.0.1:{port}"
    group = await asyncio.to_thread(group_from_the_beginning, bootstrap)
    consumer = ShareConsumer(librdkafka(bootstrap, group_id=group))
    try:
        consumer.subscribe([topic])
        outage = time.monotonic() + (DELIVERIES + 2) * LOCK_SECONDS
        assert await asyncio.to_thread(poll, consumer, outage, COUNT) == []
        assert provider.asked > 1
        provider.error = None
        found = await asyncio.to_thread(poll, consumer, time.monotonic() + SECONDS, COUNT)
        assert sorted(found) == sorted(b"%d" % number for number in range(COUNT))
    finally:
        await asyncio.to_thread(consumer.close)
        accepting.close()
        await server.drain()
