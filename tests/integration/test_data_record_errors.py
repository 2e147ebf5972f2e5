"""Errors that name records: what a client is told of each record is never about what stands in for it."""

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError

from tests.support.clients import Record, Sender
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import RawClient, batch
from tests.support.waiting import wait_until

INVALID_TIMESTAMP, INVALID_RECORD = 32, 87
PRODUCE = 0
PRODUCE_VERSION = 9


@pytest.fixture(scope="module")
def pinned(kafka: Cluster) -> Iterator[Proxy]:
    """A proxy that seals whole batches, also where the broker won't take them."""
    with kveil_proxy(kafka.bootstrap, topics=[{"match": "*", "mode": "batch"}]) as running:
        yield running


@pytest.fixture
def compacted(kafka: Cluster, topic: str) -> str:
    kafka.create_topic(topic, config={"cleanup.policy": "compact"})
    with RawClient(kafka.bootstrap) as direct:  # a moment passes until the broker itself goes by the setting
        wait_until(lambda: direct.produce({topic: {0: batch([b"no key"], key=None)}})[topic, 0][0] == INVALID_RECORD)
    return topic


def test_a_compacted_topic(kafka: Cluster, pinned: Proxy, compacted: str):
    """The broker names the records without keys. Of a batch sealed as a whole that is every record but the first."""
    with RawClient(pinned.bootstrap) as client, RawClient(kafka.bootstrap) as direct:
        for each in (client, direct):
            each.send_produce({compacted: {0: batch([b"one", b"two", b"three"], key=None)}})
        sealed, plain = (
            each.receive(PRODUCE, PRODUCE_VERSION).responses[0].partition_responses[0] for each in (client, direct)
        )
    assert int(sealed.error_code) == int(plain.error_code) == INVALID_RECORD
    assert [each.batch_index for each in plain.record_errors] == [0, 1, 2]
    assert sealed.record_errors == ()
    assert "mode" in sealed.error_message


def test_no_record_is_called_good(pinned: Proxy, compacted: str):
    """From the broker's list librdkafka would conclude that the first record is good, and report it otherwise."""
    sender = Sender(pinned.bootstrap, compacted, linger_ms=100)
    for number in range(5):
        sender.send(Record(value=b"%d" % number, key=b"%d" % number))
    sender.flush()
    assert [error.code() for error in sender.errors] == [KafkaError.INVALID_RECORD] * 5


@pytest.mark.parametrize("codec", range(5))
def test_timestamps_out_of_range(kafka: Cluster, proxy: Proxy, topic: str, codec: int):
    """The broker names the records of a plain batch, and the proxy the same ones of a batch that it would seal."""
    kafka.create_topic(
        topic, config={"message.timestamp.before.max.ms": 60_000, "message.timestamp.after.max.ms": 60_000}
    )
    now = int(time.time() * 1000)
    stamps = [now, now - 3_600_000, now + 3_600_000, now - 1000, now + 1000, 0]
    answers = []
    for bootstrap in (kafka.bootstrap, proxy.bootstrap):
        with RawClient(bootstrap) as client:
            client.send_produce({topic: {0: batch([b"v"] * len(stamps), codec=codec, timestamp_ms=stamps)}})
            (part,) = client.receive(PRODUCE, PRODUCE_VERSION).responses[0].partition_responses
            answers.append((int(part.error_code), [error.batch_index for error in part.record_errors]))
    assert answers == [(INVALID_TIMESTAMP, [1, 2, 5])] * 2
    assert kafka.stored_bytes(topic) == b""
