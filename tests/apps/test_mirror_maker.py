"""MirrorMaker 2 between two clusters: behind a proxy on both sides, and with none, so that it copies ciphertext."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException

from tests.support.clients import Record, librdkafka_produce, librdkafka_read, numbered
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.mirror import PREFIXED_NAMES, SAME_NAMES, mirror_maker
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.waiting import wait_until

pytestmark = pytest.mark.full

SECONDS = 60.0
T = 1_700_000_000_000
PARTITIONS = 2
PLAIN, RECORD, BATCH, BOTH = "mirror-plain", "mirror-record", "mirror-batch", "mirror-both"
RENAMED = f"west.{RECORD}"
RECORDS = [
    Record(
        value=None if n % 10 == 9 else b"veiled value %d" % n,
        key=b"k%d" % (n % 7),
        headers=(("n", b"%d" % n), ("n", b"again")),
        partition=n % PARTITIONS,
        timestamp=T + n * 100,
    )
    for n in range(200)
]
SMALL = {"linger_ms": 5, "batch_num_messages": 7}
"""Batches that the replicator makes others of."""

SOURCE_RULES = [{"match": BATCH, "mode": "batch"}, {"match": RECORD, "mode": "record"}]
TARGET_RULES = [
    *SOURCE_RULES,
    {"match": RENAMED, "mode": "record", "sealed_as": {"topic": RECORD}},
]


@pytest.fixture(scope="module")
def source(kafka: Cluster) -> Iterator[Proxy]:
    """A proxy before the cluster that is copied, whose topics have records in them."""
    with kveil_proxy(kafka.bootstrap, topics=SOURCE_RULES) as running:
        for topic in (PLAIN, RECORD, BATCH, BOTH):
            kafka.create_topic(topic, PARTITIONS)
            librdkafka_produce(kafka.bootstrap if topic == PLAIN else running.bootstrap, topic, RECORDS, **SMALL)
        yield running


@pytest.fixture(scope="module")
def other() -> Iterator[Cluster]:
    """The cluster that is copied to."""
    with kafka_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def target(source: Proxy, other: Cluster) -> Iterator[Proxy]:
    """A proxy before the copy, with the same keys."""
    with kveil_proxy(other.bootstrap, topics=TARGET_RULES, keys=source.keys) as running:
        yield running


def wait_until_copied(other: Cluster, *topics: str) -> None:
    """Wait until the copies have all records, sealed or not."""
    for topic in topics:
        wait_until(lambda topic=topic: len(librdkafka_read(other.bootstrap, topic)) >= len(RECORDS), SECONDS)


@pytest.fixture(scope="module")
def copied(
    kafka: Cluster, other: Cluster, source: Proxy, target: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Copies made without a proxy, of the same name and of another one."""
    here, there, folder = kafka.bootstrap, other.bootstrap, tmp_path_factory.mktemp("mirror")
    topics = [PLAIN, RECORD, BATCH]
    with mirror_maker(here, there, topics, folder, names=SAME_NAMES, alias="east"):
        wait_until_copied(other, *topics)
    with mirror_maker(here, there, [RECORD], folder, names=PREFIXED_NAMES, alias="west"):
        wait_until_copied(other, RENAMED)


def test_a_plain_copy(kafka: Cluster, other: Cluster, copied: None):
    """What the replicator does to records that nobody seals."""
    assert librdkafka_read(other.bootstrap, PLAIN) == librdkafka_read(kafka.bootstrap, PLAIN) == numbered(RECORDS)


def test_ciphertext_of_the_same_name(other: Cluster, target: Proxy, copied: None):
    assert librdkafka_read(target.bootstrap, RECORD) == numbered(RECORDS)
    assert b"veiled" not in other.stored_bytes(RECORD)


def test_ciphertext_of_another_name(other: Cluster, target: Proxy, copied: None):
    assert librdkafka_read(target.bootstrap, RENAMED) == numbered(RECORDS)
    assert b"veiled" not in other.stored_bytes(RENAMED)


def test_batches_that_were_taken_apart_are_refused(target: Proxy, copied: None):
    """Mirrored topics need record mode. What was sealed as a batch never comes out as records without values."""
    with pytest.raises(KafkaException) as error:
        librdkafka_read(target.bootstrap, BATCH)
    assert error.value.args[0].code() == KafkaError.INVALID_MSG


def test_a_proxy_on_both_sides(
    kafka: Cluster, other: Cluster, source: Proxy, target: Proxy, copied: None, tmp_path: Path
):
    """The replicator sees what applications see, and its own topics are sealed like theirs."""
    with mirror_maker(source.bootstrap, target.bootstrap, [BOTH], tmp_path, names=SAME_NAMES, alias="sealed"):
        wait_until_copied(other, BOTH)
    assert librdkafka_read(target.bootstrap, BOTH) == numbered(RECORDS)
    assert b"veiled" not in other.stored_bytes(BOTH)
    for proxy in (source, target):
        assert not proxy.events("connection_failed")
