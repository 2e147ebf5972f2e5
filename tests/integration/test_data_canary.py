"""Nothing that a client sent stands on the brokers' disks, and a consumer without the proxy sees envelopes."""

import time
import uuid
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.support import java
from tests.support.clients import Record, aiokafka_produce, librdkafka_produce, librdkafka_read
from tests.support.kafka import Cluster
from tests.support.kafkajs import Message, kafkajs_produce
from tests.support.proxy import Proxy, kveil_proxy

MAGIC = b"\xc5\x4b\x56"
SECONDS = 60.0
COPIES = 40
"""Enough for stubs to be compressed, and for a codec of the client's to be worth it."""


class Canary:
    """Markers that stand nowhere else in the world."""

    def __init__(self) -> None:
        self.key, self.value, self.name, self.header = (uuid.uuid4().hex.encode() for _ in range(4))

    def records(self) -> list[Record]:
        headers = ((self.name.decode(), self.header),)
        return [Record(key=self.key, value=self.value + b" %d" % n, headers=headers) for n in range(COPIES)]

    def found(self, cluster: Cluster) -> list[bytes]:
        return [each for each in (self.key, self.value, self.name, self.header) if cluster.contains(each)]


async def by_librdkafka(bootstrap: str, topic: str, canary: Canary) -> None:
    librdkafka_produce(bootstrap, topic, canary.records())


async def by_librdkafka_one_by_one(bootstrap: str, topic: str, canary: Canary) -> None:
    librdkafka_produce(bootstrap, topic, canary.records(), batch_num_messages=1, acks=1)


async def by_librdkafka_unacknowledged(bootstrap: str, topic: str, canary: Canary) -> None:
    librdkafka_produce(bootstrap, topic, canary.records(), acks=0)


async def by_aiokafka(bootstrap: str, topic: str, canary: Canary) -> None:
    await aiokafka_produce(bootstrap, topic, canary.records())


async def by_kafkajs(bootstrap: str, topic: str, canary: Canary) -> None:
    headers = {canary.name.decode(): canary.header}
    messages = [Message(key=each.key, value=each.value, headers=headers) for each in canary.records()]
    kafkajs_produce(bootstrap, topic, messages)


async def by_java(bootstrap: str, topic: str, canary: Canary) -> None:
    reach = ("--bootstrap-server", bootstrap, "--topic", topic)
    options = ("--reader-property", "parse.key=true", "--reader-property", "parse.headers=true")
    header = f"{canary.name.decode()}:{canary.header.decode()}"
    lines = [f"{header}\t{canary.key.decode()}\t{(each.value or b'').decode()}\n" for each in canary.records()]
    java.java_tool(java.CONSOLE_PRODUCER, *reach, *options, stdin="".join(lines))


def read_all(bootstrap: str, topic: str) -> list[Record]:
    """What was written; with acks=0 the last of it may be on its way yet."""
    deadline = time.monotonic() + SECONDS
    while len(found := librdkafka_read(bootstrap, topic)) < COPIES:
        assert time.monotonic() < deadline
    return found


WRITERS: list[Callable[[str, str, Canary], Awaitable[None]]] = [
    by_librdkafka,
    by_librdkafka_one_by_one,
    by_librdkafka_unacknowledged,
    by_aiokafka,
    by_kafkajs,
    by_java,
]


@pytest.fixture(scope="module")
def plain_proxy(kafka: Cluster) -> Iterator[Proxy]:
    with kveil_proxy(kafka.bootstrap, topics=[{"match": "plain-*", "seal": "none"}]) as running:
        yield running


@pytest.mark.parametrize("write", WRITERS)
async def test_no_canary_on_the_disks(
    kafka: Cluster, proxy: Proxy, topic: str, write: Callable[[str, str, Canary], Awaitable[None]]
):
    """Not in the topic, and not anywhere else under the brokers' data either."""
    kafka.create_topic(topic)
    canary = Canary()
    await write(proxy.bootstrap, topic, canary)
    opened = read_all(proxy.bootstrap, topic)
    assert [(record.key, record.value) for record in opened] == [(each.key, each.value) for each in canary.records()]
    assert {record.headers for record in opened} == {((canary.name.decode(), canary.header),)}
    assert canary.found(kafka) == []
    assert MAGIC in kafka.stored_bytes(topic)


@pytest.mark.parametrize("write", WRITERS)
async def test_the_check_can_fail(
    kafka: Cluster, plain_proxy: Proxy, topic: str, write: Callable[[str, str, Canary], Awaitable[None]]
):
    """The same programs in a topic that is plain on purpose, where every marker is found."""
    name = f"plain-{topic}"
    kafka.create_topic(name)
    canary = Canary()
    await write(plain_proxy.bootstrap, name, canary)
    assert len(read_all(kafka.bootstrap, name)) == COPIES
    assert canary.found(kafka) == [canary.key, canary.value, canary.name, canary.header]
    assert MAGIC not in kafka.stored_bytes(name)


def test_a_direct_consumer_sees_envelopes(kafka: Cluster, proxy: Proxy, topic: str):
    """One record for each that was sent, at its offset: the first of a batch holds the envelope, the others nothing."""
    kafka.create_topic(topic)
    canary = Canary()
    librdkafka_produce(proxy.bootstrap, topic, canary.records(), linger_ms=100)
    stored = librdkafka_read(kafka.bootstrap, topic)
    assert [record.offset for record in stored] == list(range(COPIES))
    assert (stored[0].value or b"").startswith(MAGIC)
    assert len(stored[0].key or b"") == 16
    assert all(record.headers == () for record in stored)
    envelopes = [record for record in stored if record.value is not None]
    assert len(envelopes) < COPIES
    assert all((record.value or b"").startswith(MAGIC) for record in envelopes)
    assert all(record.key is None for record in stored if record.value is None)


def test_the_log_shows_no_records(kafka: Cluster, proxy: Proxy, topic: str):
    """At its most talkative level neither."""
    kafka.create_topic(topic)
    canary = Canary()
    librdkafka_produce(proxy.bootstrap, topic, canary.records())
    assert len(librdkafka_read(proxy.bootstrap, topic)) == COPIES
    text = "\n".join(proxy.child.errors.so_far() + proxy.child.lines.so_far())
    assert [each for each in (canary.key, canary.value, canary.name, canary.header) if each.decode() in text] == []
