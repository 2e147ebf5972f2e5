"""What real clients meet at a batch that doesn't open, and how an operator gets them past it."""

import asyncio
import logging
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import Consumer, KafkaError
from confluent_kafka import TopicPartition as Place

from tests.support import java
from tests.support.kafka import Cluster
from tests.support.kafkajs import kafkajs_consume
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import RawClient, batch
from tests.support.waiting import wait_until

SECONDS = 30.0
BEFORE, BETWEEN, AFTER = [b"a", b"b"], [b"e"], [b"h", b"i"]
GOOD = [*BEFORE, *BETWEEN, *AFTER]
BAD_OFFSETS = [(2, 3), (5, 6)]


@pytest.fixture(scope="module")
def spoilt(kafka: Cluster) -> Iterator[tuple[Proxy, str]]:
    """Two batches of two plain records each lie among the sealed ones, of which the first proxy knows nothing."""
    topic = f"spoilt-{uuid.uuid4().hex}"
    kafka.create_topic(topic)
    with kveil_proxy(kafka.bootstrap) as proxy:
        with RawClient(proxy.bootstrap) as client, RawClient(kafka.bootstrap) as direct:
            bad = batch([b"plain", b"plain"])
            for to, records in ((client, BEFORE), (direct, None), (client, BETWEEN), (direct, None), (client, AFTER)):
                sent = to.produce({topic: {0: bad if records is None else batch(records)}})
                assert sent[topic, 0][0] == 0
        yield proxy, topic


@pytest.fixture(scope="module")
def skipping(kafka: Cluster, spoilt: tuple[Proxy, str]) -> Iterator[Proxy]:
    """A proxy that was told to step over them: one by its exact offsets, the other within a wider range."""
    stuck, topic = spoilt
    with kveil_proxy(kafka.bootstrap, keys=stuck.keys, config={"skip": [f"{topic}/0/2-3", f"{topic}/0/5-7"]}) as proxy:
        yield proxy


def librdkafka_settings(proxy: Proxy) -> dict[str, object]:
    return {"bootstrap.servers": proxy.bootstrap, "group.id": uuid.uuid4().hex, "enable.auto.commit": False}


def test_librdkafka_gets_its_own_error(spoilt: tuple[Proxy, str]):
    proxy, topic = spoilt
    consumer = Consumer(librdkafka_settings(proxy))
    try:
        consumer.assign([Place(topic, 0, 0)])
        messages = consumer.consume(3, SECONDS)
        assert [each.value() for each in messages[:2]] == BEFORE
        assert messages[2].error().code() == KafkaError.INVALID_MSG  # its name for CORRUPT_MESSAGE
        consumer.seek(Place(topic, 0, 4))
        assert consumer.consume(1, SECONDS)[0].value() == b"e"
    finally:
        consumer.close()


async def test_aiokafka_stands_still_and_warns(spoilt: tuple[Proxy, str]):
    """It raises none of a broker's errors that it doesn't expect in a Fetch answer: it warns and asks again."""
    proxy, topic = spoilt
    warned = asyncio.Event()
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda line: warned.set() if "CorruptRecordException" in line.getMessage() else None
    fetcher = logging.getLogger("aiokafka.consumer.fetcher")
    fetcher.addHandler(handler)
    async with AIOKafkaConsumer(bootstrap_servers=proxy.bootstrap) as consumer:
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        consumer.seek(place, 0)
        assert [(await consumer.getone()).value for _ in BEFORE] == BEFORE
        following = asyncio.ensure_future(consumer.getone())
        async with asyncio.timeout(SECONDS):
            await warned.wait()
        assert not following.done()
        consumer.seek(place, 4)
        assert (await asyncio.wait_for(following, SECONDS)).value == b"e"
    fetcher.removeHandler(handler)


def test_java_gets_its_own_error(spoilt: tuple[Proxy, str]):
    proxy, topic = spoilt
    done = java.java_tool(*console_consumer(proxy, topic), check=False)
    assert done.stdout.splitlines() == ["a", "b"]
    assert "corrupt" in done.stderr.lower()


def console_consumer(proxy: Proxy, topic: str) -> tuple[str, ...]:
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic)
    limits = ("--from-beginning", "--max-messages", str(len(GOOD)), "--timeout-ms", "20000")
    return (java.CONSOLE_CONSUMER, *reach, *limits)


def test_librdkafka_steps_over(spoilt: tuple[Proxy, str], skipping: Proxy):
    consumer = Consumer(librdkafka_settings(skipping))
    try:
        consumer.assign([Place(spoilt[1], 0, 0)])
        messages = consumer.consume(len(GOOD), SECONDS)
        assert [(each.offset(), each.value()) for each in messages] == list(zip((0, 1, 4, 7, 8), GOOD, strict=True))
    finally:
        consumer.close()


async def test_aiokafka_steps_over(spoilt: tuple[Proxy, str], skipping: Proxy):
    async with AIOKafkaConsumer(bootstrap_servers=skipping.bootstrap) as consumer:
        place = TopicPartition(spoilt[1], 0)
        consumer.assign([place])
        consumer.seek(place, 0)
        records = [await consumer.getone() for _ in GOOD]
        assert [each.value for each in records] == GOOD


def test_java_steps_over(spoilt: tuple[Proxy, str], skipping: Proxy):
    done = java.java_tool(*console_consumer(skipping, spoilt[1]))
    assert [line.encode() for line in done.stdout.splitlines()] == GOOD


def test_kafkajs_steps_over(spoilt: tuple[Proxy, str], skipping: Proxy):
    messages = kafkajs_consume(skipping.bootstrap, spoilt[1], uuid.uuid4().hex, len(GOOD))
    assert [each.value for each in messages] == GOOD


def skip_events(proxy: Proxy) -> list[dict[str, Any]]:
    events = [line["cloudevent"] for line in proxy.events("audit")]
    return [event for event in events if event["type"] == "io.kveil.records.skipped"]


def offsets(event: dict[str, Any]) -> tuple[int, int]:
    return event["data"]["first_offset"], event["data"]["last_offset"]


@pytest.mark.parametrize("start", [2, 3])
def test_each_step_is_audited(spoilt: tuple[Proxy, str], skipping: Proxy, start: int):
    """Also where the batch begins before the offset that was asked for."""
    with RawClient(skipping.bootstrap) as client:
        assert client.fetch(spoilt[1], offset=start).values == [(4, b"e"), (7, b"h"), (8, b"i")]
    wait_until(lambda: {offsets(event) for event in skip_events(skipping)} == set(BAD_OFFSETS))
    skipped = skip_events(skipping)
    assert {event["subject"] for event in skipped} == {f"{spoilt[1]}/0"}
    assert all(event["data"]["reason"] for event in skipped)
    assert not skipping.events("batch_unopened")


def test_a_range_that_cuts_a_batch_skips_nothing(kafka: Cluster, spoilt: tuple[Proxy, str]):
    """A whole batch or nothing: half of one can't be told from the other half."""
    stuck, topic = spoilt
    skip = {"skip": [f"{topic}/0/3", f"{topic}/1/2-3"]}
    with kveil_proxy(kafka.bootstrap, keys=stuck.keys, config=skip) as proxy, RawClient(proxy.bootstrap) as client:
        assert client.fetch(topic, offset=2).error == KafkaError.INVALID_MSG


def test_good_batches_in_a_skipped_range_are_delivered(kafka: Cluster, spoilt: tuple[Proxy, str]):
    stuck, topic = spoilt
    skip = {"skip": [f"{topic}/0/0-100"]}
    with kveil_proxy(kafka.bootstrap, keys=stuck.keys, config=skip) as proxy, RawClient(proxy.bootstrap) as client:
        assert [value for _, value in client.fetch(topic).values] == GOOD
