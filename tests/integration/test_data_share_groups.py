"""Share groups (KIP-932): members share a topic's records, and what they acknowledge is what the broker hears."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import AcknowledgeType, Message, ShareConsumer

from kveil.protocol.kafka.api_table import ApiKey
from tests.support import java
from tests.support.clients import Record, as_record, librdkafka, librdkafka_produce, numbered
from tests.support.kafka import Cluster
from tests.support.processes import Child
from tests.support.proxy import Proxy
from tests.support.raw_client import RawClient

pytestmark = pytest.mark.kafka4

SECONDS = 60.0
T = 1_700_000_000_000
GROUP_RESOURCE = 32


@pytest.fixture
def group(proxy: Proxy) -> str:
    """A share group that begins at the beginning; its setting is made by way of the proxy."""
    name = uuid.uuid4().hex
    setting = {"name": "share.auto.offset.reset", "config_operation": 0, "value": "earliest"}
    resource = {"resource_type": GROUP_RESOURCE, "resource_name": name, "configs": [setting]}
    with RawClient(proxy.bootstrap) as client:
        values = {"resources": [resource], "validate_only": False}
        answer = client.ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, values)
        assert answer.responses[0].error_code == 0
    return name


@contextmanager
def member(bootstrap: str, group: str, topic: str, **more: object) -> Iterator[ShareConsumer]:
    consumer = ShareConsumer(librdkafka(bootstrap, group_id=group, **more))
    consumer.subscribe([topic])
    try:
        yield consumer
    finally:
        consumer.close()


def poll_until(consumer: ShareConsumer, done: Callable[[list[Message]], bool]) -> list[Message]:
    """Poll until `done` says so of all messages up to now."""
    found: list[Message] = []
    deadline = time.monotonic() + SECONDS
    while not done(found):
        assert time.monotonic() < deadline, f"{len(found)} records in {SECONDS} s"
        for message in consumer.poll(1.0):
            assert message.error() is None, message.error()
            found.append(message)
    return found


def test_records_are_exact(kafka: Cluster, proxy: Proxy, topic: str, group: str):
    """Keys, headers, timestamps and offsets too, from two partitions and several batches."""
    kafka.create_topic(topic, partitions=2)
    sent = [
        Record(value=b"%d" % n, key=b"k%d" % n, headers=(("n", b"%d" % n),), partition=n % 2, timestamp=T - n)
        for n in range(400)
    ]
    for start in range(0, len(sent), 100):
        librdkafka_produce(proxy.bootstrap, topic, sent[start : start + 100], linger_ms=5)
    with member(proxy.bootstrap, group, topic) as consumer:
        found = [as_record(message) for message in poll_until(consumer, lambda found: len(found) >= len(sent))]
    assert sorted(found, key=lambda record: (record.partition, record.offset)) == numbered(sent)


def test_accept_release_and_reject(kafka: Cluster, proxy: Proxy, topic: str, group: str):
    """What is released comes again, also to another member; what was accepted or rejected doesn't."""
    kafka.create_topic(topic)
    librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"%d" % number) for number in range(9)], linger_ms=50)
    kinds = (AcknowledgeType.ACCEPT, AcknowledgeType.RELEASE, AcknowledgeType.REJECT)
    explicit = {"share_acknowledgement_mode": "explicit"}
    with member(proxy.bootstrap, group, topic, **explicit) as first:
        seen: list[int] = []
        while len(seen) < 9:
            for message in poll_until(first, bool):
                first.acknowledge(message, kinds[message.offset() % 3])
                seen.append(message.offset())
            assert set(first.commit_sync(SECONDS).values()) == {None}
        assert sorted(seen) == list(range(9))
    with member(proxy.bootstrap, group, topic, **explicit) as second:
        again: list[Message] = []
        while len(again) < 3:
            for message in poll_until(second, bool):
                second.acknowledge(message, AcknowledgeType.ACCEPT)
                again.append(message)
            second.commit_sync(SECONDS)
    assert sorted((message.offset(), message.value()) for message in again) == [(1, b"1"), (4, b"4"), (7, b"7")]
    librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"last")])
    with member(proxy.bootstrap, group, topic) as third:
        assert [message.value() for message in poll_until(third, bool)] == [b"last"]


def test_several_members(kafka: Cluster, proxy: Proxy, topic: str, group: str):
    """Two members of librdkafka and one of Java: each record goes to one of them, and all are delivered."""
    kafka.create_topic(topic, partitions=2)
    count = 300
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic, "--group-id", group, "--verbose")
    with (
        java.start_java_tool(java.VERIFIABLE_SHARE_CONSUMER, *reach) as by_java,
        member(proxy.bootstrap, group, topic) as one,
        member(proxy.bootstrap, group, topic) as two,
    ):
        by_java.lines.wait_for("startup_complete", SECONDS)
        by_members: list[Message] = []
        sent = 0
        deadline = time.monotonic() + SECONDS
        while sent < count or len(by_members) + len(java_records(by_java)) < count:
            assert time.monotonic() < deadline
            if sent < count:
                more = [Record(value=b"%d" % number, partition=number % 2) for number in range(sent, sent + 20)]
                librdkafka_produce(proxy.bootstrap, topic, more)
                sent += len(more)
            for consumer in (one, two):
                by_members += consumer.poll(0.05)
        by_java.stop()
        delivered = Counter(java_records(by_java))
    assert not any(message.error() for message in by_members)
    delivered.update((message.value() or b"").decode() for message in by_members)
    assert delivered == Counter(str(number) for number in range(count))
    assert by_members


def java_records(consumer: Child) -> list[str]:
    """The values that the verifiable share consumer has got up to now."""
    events = [json.loads(line) for line in consumer.lines.so_far()]
    return [event["value"] for event in events if event["name"] == "record_data"]


def test_java_console_share_consumer(kafka: Cluster, proxy: Proxy, topic: str, group: str):
    """Released by one run, it is delivered again to the next, which says that it is the second time."""
    kafka.create_topic(topic)
    librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"v%d" % n, key=b"k", timestamp=T) for n in range(5)])
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic, "--group", group)
    limits = ("--max-messages", "5", "--timeout-ms", "60000")
    names = ("timestamp", "key", "offset", "delivery")
    shown = [part for name in names for part in ("--formatter-property", f"print.{name}=true")]
    for delivery, flags in enumerate((["--release"], []), start=1):
        printed = java.java_tool(java.CONSOLE_SHARE_CONSUMER, *reach, *limits, *shown, *flags).stdout.splitlines()
        assert sorted(printed) == [f"CreateTime:{T}\tOffset:{n}\tDelivery:{delivery}\tk\tv{n}" for n in range(5)]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_java_verifiable_share_consumer(kafka: Cluster, proxy: Proxy, topic: str, group: str, mode: str):
    """The broker confirms every acknowledgement."""
    kafka.create_topic(topic)
    librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"%d" % number) for number in range(100)])
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic, "--group-id", group)
    flags = ("--max-messages", "100", "--acknowledgement-mode", mode)
    done = java.java_tool(java.VERIFIABLE_SHARE_CONSUMER, *reach, *flags).stdout
    confirmed = [line for line in done.splitlines() if '"name":"offsets_acknowledged"' in line]
    assert confirmed, done
    assert all('"success":true' in line for line in confirmed)
