"""Consumer groups that go on at the destination of `kveil migrate`, and the map of offsets."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Place

from tests.support.clients import Record, librdkafka, librdkafka_produce
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil, kveil_proxy

SECONDS = 60.0
T = 1_700_000_000_000
RECORDS = 40


@pytest.fixture(scope="module")
def ruled(kafka: Cluster) -> Iterator[Proxy]:
    with kveil_proxy(kafka.bootstrap, topics=[{"match": "plain-*", "seal": "none"}]) as proxy:
        yield proxy


@pytest.fixture
def names(kafka: Cluster, topic: str) -> tuple[str, str]:
    """A source with markers and gaps of transactions between its records, and where it goes."""
    kafka.create_topic(f"plain-{topic}", partitions=2)
    for start in range(0, RECORDS, 10):
        records = [
            Record(value=b"%d" % n, partition=n % 2, timestamp=T + n) for n in range(start, min(start + 10, RECORDS))
        ]
        transactional(kafka.bootstrap, f"plain-{topic}", records)
    return f"plain-{topic}", f"sealed-{topic}"


def transactional(bootstrap: str, topic: str, records: list[Record]) -> None:
    from confluent_kafka import Producer

    producer = Producer(librdkafka(bootstrap, transactional_id=f"{topic}-writer"))
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    for each in records:
        producer.produce(topic, each.value, None, each.partition, timestamp=each.timestamp or 0)
    producer.commit_transaction(SECONDS)


def consumer_of(bootstrap: str, group: str, topic: str) -> Consumer:
    usual = {"auto_offset_reset": "error", "enable_auto_commit": False, "fetch_wait_max_ms": 50}
    consumer = Consumer(librdkafka(bootstrap, group_id=group, **usual))
    consumer.subscribe([topic])
    return consumer


def commit(bootstrap: str, group: str, topic: str, offsets: dict[int, int]) -> None:
    consumer = Consumer(librdkafka(bootstrap, group_id=group))
    consumer.commit(offsets=[Place(topic, each, offset) for each, offset in offsets.items()], asynchronous=False)
    consumer.close()


def values_of(consumer: Consumer, count: int) -> list[bytes]:
    messages = consumer.consume(count, SECONDS)
    assert not [message.error() for message in messages if message.error()]
    return [message.value() or b"" for message in messages]


def migrate(proxy: Proxy, *arguments: object, code: int = 0) -> str:
    said = kveil("migrate", "-c", str(proxy.folder / "kveil.yaml"), *map(str, arguments))
    assert said.returncode == code, said.stdout + said.stderr
    return said.stdout


def test_a_consumer_goes_on_where_it_was(kafka: Cluster, ruled: Proxy, names: tuple[str, str]):
    """Nothing is lost and nothing comes twice, though offsets are others: each transaction has a marker."""
    source, dest = names
    groups = [f"{dest}-{each}" for each in ("middle", "end", "begin")]
    commit(kafka.bootstrap, groups[0], source, {0: 8, 1: 13})
    commit(kafka.bootstrap, groups[1], source, {0: 24, 1: 24})
    commit(kafka.bootstrap, groups[2], source, {0: 0, 1: 0})
    said = migrate(ruled, source, dest, "--translate-groups", ",".join(groups))
    assert said.count("moved, ") == 3
    # Each transaction has five records of a partition and a marker: offset 8 is the eighth record, 13 the twelfth.
    assert f"group {groups[0]}: moved, 0: 8 -> 7, 1: 13 -> 11" in said
    librdkafka_produce(ruled.bootstrap, dest, [Record(value=b"new", partition=n) for n in (0, 1)])
    for group, first in zip(groups, ({0: 14, 1: 23}, {0: 100, 1: 100}, {0: 0, 1: 1}), strict=True):
        consumer = consumer_of(ruled.bootstrap, group, dest)
        wanted = [b"%d" % n for n in range(RECORDS) if n >= first[n % 2]] + [b"new", b"new"]
        try:
            assert sorted(values_of(consumer, len(wanted))) == sorted(wanted)
        finally:
            consumer.close()


def test_all_groups_and_a_second_time(kafka: Cluster, ruled: Proxy, names: tuple[str, str]):
    """Offsets that are there already are left alone; those that are the same are no trouble."""
    source, dest = names
    commit(kafka.bootstrap, f"{dest}-a", source, {0: 6})
    commit(kafka.bootstrap, f"{dest}-b", source, {0: 7})
    kafka.create_topic(f"{source}-other")
    commit(kafka.bootstrap, f"{dest}-elsewhere", f"{source}-other", {0: 0})
    said = migrate(ruled, source, dest, "--translate-groups", "all")
    assert said.count("group ") == said.count("moved, ") == 2
    assert migrate(ruled, source, dest, "--translate-groups", "all").count("moved, ") == 2
    commit(kafka.bootstrap, f"{dest}-a", dest, {0: 1})
    said = migrate(ruled, source, dest, "--translate-groups", "all", code=1)
    assert f"group {dest}-a: left alone, it has offsets of {dest} already" in said
    assert f"group {dest}-b: moved" in said


def test_an_active_group_is_left_alone(kafka: Cluster, ruled: Proxy, names: tuple[str, str]):
    source, dest = names
    group = f"{dest}-active"
    commit(kafka.bootstrap, group, source, {0: 6, 1: 6})
    consumer = consumer_of(kafka.bootstrap, group, source)
    try:
        assert len(values_of(consumer, 2)) == 2
        said = migrate(ruled, source, dest, "--translate-groups", group, code=1)
        assert f"group {group}: left alone, it is active (Stable)" in said
    finally:
        consumer.close()
    assert "moved, " in migrate(ruled, source, dest, "--translate-groups", group)


def test_a_group_that_is_ahead_or_unknown(kafka: Cluster, ruled: Proxy, names: tuple[str, str]):
    source, dest = names
    commit(kafka.bootstrap, f"{dest}-ahead", source, {0: 25})
    said = migrate(ruled, source, dest, "--translate-groups", f"{dest}-ahead,{dest}-unknown", code=1)
    assert f"its offset 25 of {source}/0 isn't copied yet" in said
    assert f"group {dest}-unknown: left alone, it has no offsets of {source}" in said


def test_the_map_is_whole_after_a_second_run(ruled: Proxy, names: tuple[str, str], tmp_path: Path):
    source, dest = names
    path = tmp_path / "offsets.jsonl"
    migrate(ruled, source, dest)
    librdkafka_produce(ruled.bootstrap, source, [Record(value=b"late", timestamp=T)])
    migrate(ruled, source, dest, "--offsets-map", path)
    head, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert head == {"map": "kveil-offsets/1", "source": source, "dest": dest}
    runs = [line for line in lines if line["partition"] == 0]
    assert [(run["source"], run.get("count")) for run in runs] == [
        (0, 5),
        (6, 5),
        (12, 5),
        (18, 5),
        (24, 1),
        (25, None),
    ]
    assert [run["dest"] for run in runs] == [0, 5, 10, 15, 21, 22]
    assert not list(tmp_path.glob(".*"))


def test_the_dry_run_shows_the_groups(kafka: Cluster, ruled: Proxy, names: tuple[str, str]):
    """Once the copy is there; nothing is committed."""
    source, dest = names
    group = f"{dest}-dry"
    commit(kafka.bootstrap, group, source, {0: 8})
    migrate(ruled, source, dest)
    assert "0: 8 -> 7" in migrate(ruled, source, dest, "--dry-run", "--translate-groups", group)
    consumer = Consumer(librdkafka(kafka.bootstrap, group_id=group))
    assert consumer.committed([Place(dest, 0)], SECONDS)[0].offset < 0
    consumer.close()
