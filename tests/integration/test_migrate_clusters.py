"""`kveil migrate` where a cluster has several brokers, wants a login, or has cleaned its log."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import shared_cluster
from tests.support.clients import Record, librdkafka_produce, librdkafka_read, untimed
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.processes import Child
from tests.support.proxy import KVEIL, Proxy, kveil, kveil_proxy
from tests.support.security import login
from tests.support.storage import topic_segments

SECONDS = 60.0
T = 1_700_000_000_000
PLAIN = [{"match": "plain-*", "seal": "none"}]


def migrate(proxy: Proxy, *arguments: object, code: int = 0) -> str:
    said = kveil("migrate", "-c", str(proxy.folder / "kveil.yaml"), *map(str, arguments))
    assert said.returncode == code, said.stdout + said.stderr
    return said.stdout + said.stderr


def without_offsets(records: list[Record]) -> list[tuple[object, ...]]:
    return [(each.partition, each.key, each.value, each.headers, each.timestamp) for each in records]


def test_a_broker_that_is_lost_on_the_way(kafka3: Cluster, topic: str):
    """The copy goes on by itself, and each record is there once."""
    source, dest = f"plain-{topic}", f"sealed-{topic}"
    kafka3.create_topic(source, partitions=6, replication=3)
    noise = random.Random(1)
    records = [Record(value=noise.randbytes(1000), partition=n % 6, timestamp=T + n) for n in range(6000)]
    librdkafka_produce(kafka3.bootstrap, source, records)
    with kveil_proxy(kafka3.internal_bootstrap, topics=PLAIN) as proxy:
        config = str(proxy.folder / "kveil.yaml")
        with Child([*KVEIL, "migrate", "-c", config, source, dest, "--rate-limit", "1"]) as child:
            child.errors.wait_for("copied: ", SECONDS)
            kafka3.kill_node(2)
            try:
                child.errors.wait_for("goes on from what is committed", SECONDS)
            finally:
                kafka3.start_node(2)
            assert child.wait(SECONDS) == 0, child.errors.so_far()[-20:]
            assert len([line for line in child.lines.so_far() if "the same 1000 records" in line]) == 6
        opened, plain = librdkafka_read(proxy.bootstrap, dest), librdkafka_read(kafka3.bootstrap, source)
        assert without_offsets(opened) == without_offsets(plain)


def test_a_login_by_the_properties_of_kafkas_tools(kafka_sasl: Cluster, topic: str, tmp_path: Path):
    source, dest = f"plain-{topic}", f"sealed-{topic}"
    kafka_sasl.create_topic(source)
    librdkafka_produce(kafka_sasl.client_settings(), source, [Record(value=b"x", timestamp=T)])
    properties = tmp_path / "client.properties"
    written = kafka_sasl.java_settings(login("alice", "SCRAM-SHA-512"))
    properties.write_text("".join(f"{name}={value}\n" for name, value in written.items()))
    tls = {"ca": str(kafka_sasl.certificates.authority.path)}
    with kveil_proxy(kafka_sasl.bootstrap, topics=PLAIN, tls=tls) as proxy:
        assert "upstream.sasl" in migrate(proxy, source, dest, code=1)
        said = migrate(proxy, source, dest, "--command-config", properties)
        assert "the same 1 records" in said
        assert login("alice").password not in said
        properties.write_text("sasl.mechanism=GSSAPI\n")
        assert "write upstream.sasl" in migrate(proxy, source, dest, "--command-config", properties, code=2)


# Compacted topics -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cleaned() -> Iterator[Cluster]:
    """A node whose log cleaner looks often."""
    yield from shared_cluster(kafka_cluster(properties={"log.cleaner.backoff.ms": 100}))


def compacted(cleaned: Cluster, topic: str) -> None:
    """A topic of which the cleaner has dropped every second record, also the first."""
    cleaned.create_topic(topic, config={"segment.ms": 1000, "min.cleanable.dirty.ratio": "0.0"})
    for text in (b"old", b"new"):
        for n in range(10):
            key = b"%d" % n if n % 2 or text == b"new" else b"only %d" % n
            librdkafka_produce(cleaned.bootstrap, topic, [Record(key=key, value=text, timestamp=T + n)])
    librdkafka_produce(cleaned.bootstrap, topic, [Record(key=b"1", value=None, timestamp=T)])
    ahead = Record(key=b"ahead", value=b"ahead", timestamp=int(time.time() + 10) * 1000)
    librdkafka_produce(cleaned.bootstrap, topic, [ahead])  # begins a new segment: only those before it are cleaned
    cleaned.alter_topic_config(topic, {"cleanup.policy": "compact", "delete.retention.ms": "100000"})
    deadline = time.monotonic() + SECONDS
    while len(librdkafka_read(cleaned.bootstrap, topic)) > 17:
        assert time.monotonic() < deadline, "it is not cleaned"
    assert list(topic_segments(cleaned.data_dirs, topic))


@pytest.mark.broker
def test_a_compacted_topic_with_gaps(cleaned: Cluster, topic: str, tmp_path: Path):
    source, dest = f"plain-{topic}", f"sealed-{topic}"
    compacted(cleaned, source)
    path = tmp_path / "map"
    with kveil_proxy(cleaned.bootstrap, topics=PLAIN) as proxy:
        assert "the same" in migrate(proxy, source, dest, "--offsets-map", path)
        opened, plain = librdkafka_read(proxy.bootstrap, dest), librdkafka_read(cleaned.bootstrap, source)
        assert without_offsets(opened) == without_offsets(plain)
        assert cleaned.topic_config(dest)["cleanup.policy"] == "compact"
        # A later value is a difference, of one key; what the cleaner drops besides is none.
        librdkafka_produce(cleaned.bootstrap, source, [Record(key=b"3", value=b"newest", timestamp=T)])
        assert "the same" in migrate(proxy, source, dest)
        assert untimed(librdkafka_read(proxy.bootstrap, dest))[-1].value == b"newest"
    assert '"partition": 0, "end": true' in path.read_text()
