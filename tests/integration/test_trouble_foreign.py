"""Batches that don't belong where they are: copied, plain, or sealed under a key that has no business there."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil, kveil_proxy
from tests.support.raw_client import Fetched, RawClient, batch
from tests.support.waiting import wait_until

CORRUPT_MESSAGE = 2


@pytest.fixture(scope="module")
def proxy(kafka: Cluster) -> Iterator[Proxy]:
    with kveil_proxy(kafka.bootstrap, topics=[{"match": "mixed-*", "accept_plain": True}]) as running:
        yield running


@pytest.fixture(scope="module")
def client(proxy: Proxy) -> Iterator[RawClient]:
    with RawClient(proxy.bootstrap) as connected:
        connected.metadata()
        yield connected


@pytest.fixture(scope="module")
def direct(kafka: Cluster) -> Iterator[RawClient]:
    with RawClient(kafka.bootstrap) as connected:
        yield connected


def produce(client: RawClient, topic: str, records: bytes, partition: int = 0) -> None:
    assert client.produce({topic: {partition: records}})[topic, partition][0] == 0


def check_refused(fetched: Fetched, proxy: Proxy, topic: str, partition: int = 0) -> str:
    """The partition has an error and no byte of records, and one line says why."""
    assert (fetched.error, fetched.records) == (CORRUPT_MESSAGE, b"")

    def lines() -> list[dict[str, Any]]:
        place = (topic, partition)
        return [line for line in proxy.events("batch_unopened") if (line["topic"], line["partition"]) == place]

    wait_until(lambda: bool(lines()))
    assert len(lines()) == 1
    return str(lines()[0]["reason"])


def test_copied_to_another_partition(kafka: Cluster, proxy: Proxy, client: RawClient, direct: RawClient, topic: str):
    kafka.create_topic(topic, partitions=2)
    produce(client, topic, batch([b"for partition 0"]))
    produce(direct, topic, direct.fetch(topic, 0).records, partition=1)
    assert check_refused(client.fetch(topic, 1), proxy, topic, 1) == "commitment"
    assert client.fetch(topic, 0).values == [(0, b"for partition 0")]


def test_copied_to_another_topic(kafka: Cluster, proxy: Proxy, client: RawClient, direct: RawClient, topic: str):
    other = f"{topic}-other"
    for name in (topic, other):
        kafka.create_topic(name)
    produce(client, topic, batch([b"for one topic"]))
    produce(direct, other, direct.fetch(topic).records)
    check_refused(client.fetch(other), proxy, other)


def test_copy_behind_the_original_opens(kafka: Cluster, client: RawClient, direct: RawClient, topic: str):
    """The copies above fail for their place alone. A repeat in the same place goes unseen in version 1."""
    kafka.create_topic(topic)
    produce(client, topic, batch([b"again"]))
    produce(direct, topic, direct.fetch(topic).records)
    assert client.fetch(topic).values == [(0, b"again"), (1, b"again")]


def test_plain_records_by_another_producer(
    kafka: Cluster, proxy: Proxy, client: RawClient, direct: RawClient, topic: str
):
    """What was sealed before is delivered, then the error stands until an operator steps over it."""
    kafka.create_topic(topic)
    produce(client, topic, batch([b"sealed"]))
    produce(direct, topic, batch([b"injected"]))
    produce(client, topic, batch([b"sealed later"]))
    assert client.fetch(topic).values == [(0, b"sealed")]
    check_refused(client.fetch(topic, offset=1), proxy, topic)
    line = next(line for line in proxy.events("batch_unopened") if line["topic"] == topic)
    assert (line["first_offset"], line["last_offset"], line["next_good_offset"]) == (1, 1, 2)
    assert client.fetch(topic, offset=2).values == [(2, b"sealed later")]


def test_plain_records_where_a_rule_accepts_them(kafka: Cluster, client: RawClient, direct: RawClient, topic: str):
    name = f"mixed-{topic}"
    kafka.create_topic(name)
    produce(direct, name, batch([b"plain"]))
    produce(client, name, batch([b"sealed"]))
    assert client.fetch(name).values == [(0, b"plain"), (1, b"sealed")]
    assert b"plain" in kafka.stored_bytes(name)
    assert b"sealed" not in kafka.stored_bytes(name)


def test_another_key_file(kafka: Cluster, proxy: Proxy, client: RawClient, topic: str, tmp_path: Path):
    """Same realm and same key name, other keys: what a restored wrong backup looks like."""
    kafka.create_topic(topic)
    produce(client, topic, batch([b"ours"]))
    keys = make_keys(tmp_path, "--realm", json.loads(proxy.keys.read_text())["realm"])
    with kveil_proxy(kafka.bootstrap, keys=keys) as other, RawClient(other.bootstrap) as reader:
        check_refused(reader.fetch(topic), other, topic)
        produce(reader, topic, batch([b"theirs"]))
        assert reader.fetch(topic, offset=1).values == [(1, b"theirs")]
    assert client.fetch(topic).values == [(0, b"ours")]


def test_key_that_the_rule_does_not_list(kafka: Cluster, topic: str, tmp_path: Path):
    """All readers hold the key itself, and only their rules differ. A retired key may stay listed."""
    keys = make_keys(tmp_path, "--key", "default", "--key", "payments")
    kafka.create_topic(topic)
    sealing = [{"match": "*", "key": "payments"}]
    with kveil_proxy(kafka.bootstrap, keys=keys, topics=sealing) as writer, RawClient(writer.bootstrap) as client:
        produce(client, topic, batch([b"sealed for payments"]))
        assert client.fetch(topic).values == [(0, b"sealed for payments")]
    with kveil_proxy(kafka.bootstrap, keys=keys) as reader, RawClient(reader.bootstrap) as client:
        reason = check_refused(client.fetch(topic), reader, topic)
        assert "'payments'" in reason
        assert "not among those that the rule accepts" in reason
    listed = [{"match": "*", "accept_keys": ["payments"]}]
    with kveil_proxy(kafka.bootstrap, keys=keys, topics=listed) as reader, RawClient(reader.bootstrap) as client:
        assert client.fetch(topic).values == [(0, b"sealed for payments")]


def make_keys(folder: Path, *options: str) -> Path:
    keys = folder / "keys.json"
    assert kveil("keys", "init", "--keys", str(keys), *options).returncode == 0
    return keys
