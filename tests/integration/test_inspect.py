"""`kveil inspect` on a real broker: every way of sealing, plain records, markers, and what is inside."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.support.clients import Record, librdkafka, librdkafka_produce
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.proxy import Proxy, kveil, kveil_proxy

T = 1_700_000_000_000
SECONDS = 60.0
SECRET = b"\x1b[2Jsecret"


@pytest.fixture(scope="module")
def kafka() -> Iterator[Cluster]:
    """A cluster for these tests alone: its key topic is theirs."""
    with kafka_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    done = kveil("keys", "init", "--keys", str(path), "--key", "default", "--key", "customers")
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def proxy(kafka: Cluster, keys: Path) -> Iterator[Proxy]:
    rules = [
        {"match": "*-plain", "seal": "none"},
        {"match": "*-record", "mode": "record"},
        {"match": "*-people", "mode": "record", "key": "customers", "key_per": "record_key", "keys": "clear"},
    ]
    with kveil_proxy(kafka.bootstrap, topics=rules, keys=keys) as running:
        yield running


def records(count: int, **more: Any) -> list[Record]:
    return [
        Record(key=b"k%d" % n, value=SECRET + b" %d" % n, headers=(("trace", b"\x00\xff"),), timestamp=T + n, **more)
        for n in range(count)
    ]


def run(proxy: Proxy, topic: str, *arguments: str, code: int = 0) -> str:
    done = kveil("inspect", topic, *arguments, "-c", str(proxy.folder / "kveil.yaml"))
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout


def inspect(proxy: Proxy, topic: str, *arguments: str, code: int = 0) -> dict[str, Any]:
    return dict(json.loads(run(proxy, topic, *arguments, "--json", code=code)))


def test_batches_are_one_envelope_each(kafka: Cluster, proxy: Proxy, topic: str):
    kafka.create_topic(topic, partitions=2)
    for partition, count in ((0, 40), (0, 3), (1, 5)):
        librdkafka_produce(proxy.bootstrap, topic, records(count, partition=partition), linger_ms=200)
    found = inspect(proxy, topic)
    rows = found["envelopes"]
    assert [(row["partition"], row["first_offset"], row["last_offset"], row["records"]) for row in rows] == [
        (0, 0, 39, 40),
        (0, 40, 42, 3),
        (1, 0, 4, 5),
    ]
    assert {(row["kind"], row["mode"], row["version"], row["suite"]) for row in rows} == {
        ("sealed", "batch", 1, "HKDF-SHA512 + AES-256-GCM")
    }
    assert {(row["key"]["provider"], row["key"]["name"], row["key"]["version"]) for row in rows} == {
        ("keyfile", "default", "1")
    }
    assert all(0 < row["overhead_bytes"] < 400 for row in rows)
    assert "opened" not in rows[0]
    total = found["total"]
    assert (total["batches"], total["envelopes"], total["records"], total["problems"]) == (3, 3, 48, 0)
    assert total["batch_bytes"] == total["stored_bytes"] == total["payload_bytes"] + total["overhead_bytes"]


def test_where_to_begin_and_to_end_is_said_as_in_kafkas_tools(kafka: Cluster, proxy: Proxy, topic: str):
    name = f"{topic}-record"
    kafka.create_topic(name, partitions=2)
    librdkafka_produce(proxy.bootstrap, name, records(30) + records(2, partition=1), linger_ms=200)

    def offsets(*arguments: str) -> list[tuple[int, int]]:
        return [(row["partition"], row["first_offset"]) for row in inspect(proxy, name, *arguments)["envelopes"]]

    assert offsets() == [*((0, n) for n in range(20)), (1, 0), (1, 1)]
    assert offsets("--partition", "0", "--offset", "-3") == [(0, 27), (0, 28), (0, 29)]
    assert offsets("--offset", "latest") == []
    assert offsets("--partition", "1", "--offset", "earliest", "--limit", "1") == [(1, 0)]
    shown = run(proxy, name, "--partition", "0", "--offset", "12", "--limit", "2")
    assert "partition 0 goes on up to offset 30: --partition 0 --offset 14" in shown
    assert kveil("inspect", name, "--offset", "soon", "--upstream", kafka.bootstrap).returncode == 2
    assert (
        "has no partition 9"
        in kveil("inspect", name, "--partition", "9", "-c", str(proxy.folder / "kveil.yaml")).stderr
    )
    assert kveil("inspect", "nobody-made-it", "-c", str(proxy.folder / "kveil.yaml")).returncode == 1


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_record_mode_has_an_envelope_for_each_record(kafka: Cluster, proxy: Proxy, topic: str, codec: str):
    name = f"{topic}-record"
    kafka.create_topic(name)
    librdkafka_produce(
        proxy.bootstrap, name, [*records(2), Record(key=b"k0", timestamp=T)], linger_ms=200, compression_type=codec
    )
    rows = inspect(proxy, name, "--open")["envelopes"]
    assert [row["mode"] for row in rows] == ["record", "record", "tombstone"]
    assert {(row["codec"], row["hiding_key_id"] is not None) for row in rows} == {(codec, True)}
    (first,), (second,), (deleted,) = (row["opened"] for row in rows)
    assert (first["key"], first["value"], first["timestamp"]) == ("k0", SECRET.decode() + " 0", T)
    assert first["headers"] == [["trace", {"base64": "AP8="}]]
    assert (second["offset"], deleted["key"], deleted["value"]) == (1, "k0", None)
    assert all(30 <= row["payload_bytes"] <= 32 for row in rows[:2]), "the client's own records take 30 bytes"


def test_a_key_for_each_record_key(kafka: Cluster, proxy: Proxy, topic: str):
    name = f"{topic}-people"
    kafka.create_topic(name)
    people = [Record(key=key, value=b"of %b" % key, timestamp=T) for key in (b"alice", b"bob", b"alice")]
    librdkafka_produce(proxy.bootstrap, name, people, linger_ms=200)
    rows = inspect(proxy, name, "--open")["envelopes"]
    kids = [row["kid"] for row in rows]
    assert kids[0] == kids[2] != kids[1]
    assert {row["hiding_key_id"] for row in rows} == {None}
    assert [row["opened"][0]["value"] for row in rows] == ["of alice", "of bob", "of alice"]
    config = str(proxy.folder / "kveil.yaml")
    assert kveil("keys", "shred", name, "alice", "-c", config).returncode == 0
    erased = inspect(proxy, name, "--open", code=1)["envelopes"]
    assert all("its record key was erased" in row["unopened"] for row in erased)


def test_plain_records_and_markers(kafka: Cluster, proxy: Proxy, topic: str):
    kafka.create_topic(topic)
    librdkafka_produce(kafka.bootstrap, topic, records(2), linger_ms=200)
    producer = Producer(librdkafka(proxy.bootstrap, transactional_id=topic))
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    producer.produce(topic, b"paid")
    producer.commit_transaction(SECONDS)
    found = inspect(proxy, topic)
    assert [(row["kind"], row["transactional"]) for row in found["envelopes"]] == [
        ("plain", False),
        ("sealed", True),
        ("control", True),
    ]
    assert found["envelopes"][0]["overhead_bytes"] == 0
    plain, sealed, control = inspect(proxy, topic, "--open", code=1)["envelopes"]
    assert "no envelope" in plain["unopened"]
    assert sealed["opened"][0]["value"] == "paid"
    assert "opened" not in control


def test_a_plain_topic_shows_what_stands_there(kafka: Cluster, proxy: Proxy, topic: str):
    name = f"{topic}-plain"
    kafka.create_topic(name)
    librdkafka_produce(proxy.bootstrap, name, records(2), linger_ms=200)
    (row,) = inspect(proxy, name, "--open")["envelopes"]
    assert (row["kind"], len(row["opened"])) == ("plain", 2)


def test_the_table_is_safe_and_audited(kafka: Cluster, proxy: Proxy, topic: str):
    kafka.create_topic(topic)
    librdkafka_produce(proxy.bootstrap, topic, records(1))
    config = str(proxy.folder / "kveil.yaml")
    done = kveil("inspect", topic, "--open", "-c", config)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert r"key 'k0'  value '\x1b[2Jsecret 0'  headers  'trace': b'\x00\xff'" in done.stdout
    events = [json.loads(line) for line in done.stderr.splitlines()]
    audited = [event["cloudevent"] for event in events if event["event"] == "audit"]
    assert [(one["type"], one["subject"]) for one in audited] == [("io.kveil.key.unwrapped", topic)]
    assert "secret" not in done.stderr
    closed = kveil("inspect", topic, "-c", config)
    assert (closed.stderr, "secret" in closed.stdout) == ("", False)
