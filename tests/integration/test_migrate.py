"""`kveil migrate`: a topic into another one, each record exactly once, and everything of it kept."""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient

from kveil.protocol.envelope.record import peek_records
from kveil.protocol.kafka.record_batch import read_header, split_batches
from kveil.protocol.kafka.record_timestamps import record_timestamps
from kveil.protocol.kafka.varint import write_varint
from tests.support.clients import Record, librdkafka, librdkafka_produce, librdkafka_read
from tests.support.kafka import Cluster
from tests.support.processes import Child
from tests.support.proxy import KVEIL, Proxy, kveil, kveil_proxy
from tests.support.raw_client import RawClient
from tests.vectors.reference import Batch, record

T = 1_700_000_000_000
SECONDS = 60.0
RULES = [
    {"match": "plain-*", "seal": "none"},
    {"match": "second-*", "key": "second", "mode": "record"},
    {"match": "compact-*"},
]
ODD = [
    Record(value=b"one", key=b"k", timestamp=T),
    Record(value=None, key=b"tombstone", timestamp=T + 5),
    Record(value=b"", key=b"", timestamp=T + 1),
    Record(value=b"no key", timestamp=T + 2),
    Record(timestamp=T + 3),
    Record(value=b"h", headers=(("a", b"1"), ("a", b"2"), ("null", None), ("empty", b""), ("", b"x")), timestamp=T),
    Record(value=bytes(range(256)) * 2000, partition=1, timestamp=T - 10**12),
    Record(value=b"one", key=b"k", partition=2, timestamp=T),
    Record(value=b"one", key=b"k", partition=2, timestamp=T),
]


@pytest.fixture(scope="module")
def ruled(kafka: Cluster) -> Iterator[Proxy]:
    """A proxy whose configuration the command uses too; topics are plain by name, or sealed."""
    with kveil_proxy(kafka.bootstrap, topics=RULES, start=False) as proxy:
        assert kveil("keys", "add", "second", "--keys", str(proxy.keys)).returncode == 0
        proxy.start()
        yield proxy


@pytest.fixture
def config(ruled: Proxy) -> Path:
    return ruled.folder / "kveil.yaml"


@pytest.fixture
def names(topic: str) -> tuple[str, str]:
    return f"plain-{topic}", f"sealed-{topic}"


def migrate(config: Path, *arguments: object, code: int = 0) -> str:
    """Run it, and return what it printed."""
    said = kveil("migrate", "-c", str(config), *map(str, arguments))
    assert said.returncode == code, said.stdout + said.stderr
    assert "Traceback" not in said.stderr
    return said.stdout if code == 0 else said.stdout + said.stderr


def content(bootstrap: str, topic: str) -> list[Record]:
    """What readers of committed records get, offsets aside: those of markers differ."""
    found = librdkafka_read(bootstrap, topic)
    return [
        Record(value=each.value, key=each.key, headers=each.headers, partition=each.partition, timestamp=each.timestamp)
        for each in found
    ]


def test_everything_of_a_record_is_kept(kafka: Cluster, ruled: Proxy, config: Path, names: tuple[str, str]):
    source, dest = names
    kafka.create_topic(source, partitions=3)
    librdkafka_produce(kafka.bootstrap, source, ODD, linger_ms=50)
    printed = migrate(config, source, dest)
    assert printed.count("the same") == 3
    assert content(ruled.bootstrap, dest) == content(kafka.bootstrap, source)
    assert b"tombstone" not in kafka.stored_bytes(dest)
    assert content(kafka.bootstrap, dest) != content(kafka.bootstrap, source)
    assert kafka.topic_config(dest)["max.message.bytes"] == "1183757"


def produce_raw(kafka: Cluster, topic: str, *batches: bytes) -> None:
    with RawClient(kafka.bootstrap) as client:
        for each in batches:
            assert client.produce({topic: {0: each}})[topic, 0][0] == 0


def test_what_clients_would_lose(kafka: Cluster, ruled: Proxy, config: Path, names: tuple[str, str]):
    """Timestamps 0 and -1, which librdkafka replaces, and a header's name that isn't text."""
    source, dest = names
    kafka.create_topic(source)
    header = b"\x02" + b"\x04\xff\xfe" + b"\x02x"
    for stamp in (0, -1):
        one = Batch(record(0, None, b"value"), 1, base_timestamp=stamp, max_timestamp=stamp)
        produce_raw(kafka, source, one.encode())
    body = b"\0\0\0" + b"\x01" + b"\x02v" + header
    produce_raw(kafka, source, Batch(write_varint(len(body)) + body, 1, base_timestamp=T, max_timestamp=T).encode())
    assert "the same 3 records" in migrate(config, source, dest)
    opened: list[memoryview] = []  # several answers: such old timestamps begin a new segment of the log
    with RawClient(ruled.bootstrap) as client:
        while batches := client.fetch(dest, offset=read_header(opened[-1]).next_offset if opened else 0).batches:
            opened += map(memoryview, batches)
    assert b"\xff\xfe\x02x" in b"".join(opened)
    assert [stamp for view in opened for _, stamp in timestamps(view)] == [0, -1, T]


def timestamps(view: memoryview) -> list[tuple[int, int]]:
    return [] if read_header(view).is_control else list(record_timestamps(view))


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_what_was_compressed_stays_so(kafka: Cluster, ruled: Proxy, config: Path, names: tuple[str, str], codec: str):
    source, dest = names
    kafka.create_topic(source)
    records = [Record(value=b"again and again " * 100, timestamp=T + n) for n in range(500)]
    librdkafka_produce(kafka.bootstrap, source, records, compression_type=codec, linger_ms=100)
    migrate(config, source, dest)
    assert content(ruled.bootstrap, dest) == records
    assert len(kafka.stored_bytes(dest)) < 200_000 < sum(len(each.value or b"") for each in records)


def test_timestamps_of_the_broker_are_kept(kafka: Cluster, ruled: Proxy, config: Path, names: tuple[str, str]):
    source, dest = names
    kafka.create_topic(source, config={"message.timestamp.type": "LogAppendTime", "retention.ms": 10**12})
    librdkafka_produce(kafka.bootstrap, source, [Record(value=b"%d" % n, timestamp=T) for n in range(3)])
    migrate(config, source, dest)
    assert content(ruled.bootstrap, dest) == content(kafka.bootstrap, source)
    settings = kafka.topic_config(dest)
    assert (settings["message.timestamp.type"], settings["retention.ms"]) == ("CreateTime", str(10**12))


def transact(kafka: Cluster, topic: str, *, commit: bool, values: Sequence[bytes]) -> None:
    producer = Producer(librdkafka(kafka.bootstrap, transactional_id=f"{topic}-writer"))
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, b"k", 0, timestamp=T)
    assert producer.flush(SECONDS) == 0
    if commit:
        producer.commit_transaction(SECONDS)
    else:
        producer.abort_transaction(SECONDS)


def test_aborted_records_stay_behind(kafka: Cluster, ruled: Proxy, config: Path, names: tuple[str, str]):
    source, dest = names
    kafka.create_topic(source)
    transact(kafka, source, commit=True, values=[b"good 1", b"good 2"])
    transact(kafka, source, commit=False, values=[b"bad"])
    librdkafka_produce(kafka.bootstrap, source, [Record(value=b"plain", timestamp=T)])
    transact(kafka, source, commit=False, values=[b"bad"])
    transact(kafka, source, commit=True, values=[b"good 3"])
    assert "the same 4 records" in migrate(config, source, dest)
    assert [each.value for each in content(ruled.bootstrap, dest)] == [b"good 1", b"good 2", b"plain", b"good 3"]


def test_under_another_key_in_another_mode(kafka: Cluster, ruled: Proxy, config: Path, topic: str):
    source, dest = f"sealed-{topic}", f"second-{topic}"
    kafka.create_topic(source, partitions=3)
    librdkafka_produce(ruled.bootstrap, source, ODD, linger_ms=50)
    migrate(config, source, dest)
    assert content(ruled.bootstrap, dest) == content(ruled.bootstrap, source)
    with RawClient(kafka.bootstrap) as direct:
        view = next(split_batches(direct.fetch(dest).records))
        (place,) = peek_records(view, read_header(view)).keys
    assert place[1].name == "second"


def test_back_to_plain_only_on_purpose(kafka: Cluster, ruled: Proxy, config: Path, topic: str):
    source, dest = f"sealed-{topic}", f"plain-{topic}"
    kafka.create_topic(source, partitions=3)
    librdkafka_produce(ruled.bootstrap, source, ODD, linger_ms=50)
    assert "say --to-plain" in migrate(config, source, dest, code=2)
    assert dest not in AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=SECONDS).topics
    said = kveil("migrate", "-c", str(config), source, dest, "--to-plain")
    assert said.returncode == 0, said.stderr
    assert content(kafka.bootstrap, dest) == content(ruled.bootstrap, source)
    events = [json.loads(line) for line in said.stderr.splitlines() if line.startswith("{")]
    (told,) = [e["cloudevent"] for e in events if e.get("cloudevent", {}).get("type") == "io.kveil.topic.copied_plain"]
    assert (told["subject"], told["data"]["source"], told["data"]["operation"]) == (dest, source, "kveil migrate")


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("partitions", "settings", "records", "reason"),
    [
        (1, {}, 0, "records keep their partitions"),
        (2, {}, 1, "is not empty"),
        (2, {"message.timestamp.type": "LogAppendTime"}, 0, "replace the records' timestamps"),
        (2, {"cleanup.policy": "compact"}, 0, "is compacted"),
    ],
)
def test_a_bad_destination(
    kafka: Cluster,
    config: Path,
    names: tuple[str, str],
    partitions: int,
    settings: dict[str, str],
    records: int,
    reason: str,
):
    source, dest = names
    kafka.create_topic(source, partitions=2)
    kafka.create_topic(dest, partitions=partitions, config=settings)
    librdkafka_produce(kafka.bootstrap, source, [Record(value=b"x")])
    librdkafka_produce(kafka.bootstrap, dest, [Record(value=b"there")] * records)
    assert reason in migrate(config, source, dest, code=2)
    assert len(librdkafka_read(kafka.bootstrap, dest)) == records


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("plain-a", "plain-b"), "both plain"),
        (("plain-a", "plain-a"), "the same topic"),
        (("sealed-a", "sealed-b", "--to-plain"), "give it seal: none"),
        (("plain-there-is-none", "sealed-b"), "there is no topic plain-there-is-none"),
        (("plain-a",), "SOURCE and DEST"),
        (("plain-a", "sealed-a", "--mark", "plain-a"), "SOURCE and DEST"),
    ],
)
def test_wrong_use(config: Path, arguments: Sequence[str], reason: str):
    assert reason in migrate(config, *arguments, code=2)


def test_a_source_that_does_not_open(kafka: Cluster, config: Path, topic: str):
    """A plain record in a sealed topic: nothing of it, nor behind it, is copied."""
    source, dest = f"sealed-{topic}", f"second-{topic}"
    kafka.create_topic(source)
    librdkafka_produce(kafka.bootstrap, source, [Record(value=b"plain")])
    assert "doesn't open" in migrate(config, source, dest, code=1)
    assert not librdkafka_read(kafka.bootstrap, dest)


def test_a_record_that_is_too_large(kafka: Cluster, config: Path, names: tuple[str, str]):
    """Batches are made smaller until a single record is left, which says what to do."""
    source, dest = names
    kafka.create_topic(source)
    kafka.create_topic(dest, config={"max.message.bytes": 20_000, "retention.ms": -1})
    noise = random.Random(1)
    small = [Record(value=noise.randbytes(5_000), timestamp=T) for _ in range(20)]
    librdkafka_produce(kafka.bootstrap, source, small, linger_ms=100)
    migrate(config, source, dest)
    librdkafka_produce(kafka.bootstrap, source, [Record(value=noise.randbytes(30_000), timestamp=T)])
    assert f"kveil prepare {dest}" in migrate(config, source, dest, code=1)


# Going on -------------------------------------------------------------------------------------------------------------


def started(config: Path, *arguments: object) -> Child:
    return Child([*KVEIL, "migrate", "-c", str(config), *map(str, arguments)])


@pytest.mark.parametrize("kills", [1, 4])
def test_killed_and_run_again(kafka: Cluster, ruled: Proxy, config: Path, names: tuple[str, str], kills: int):
    """At any moment: whatever a transaction that was open has left, readers see each record once."""
    source, dest = names
    kafka.create_topic(source, partitions=2)
    noise = random.Random(2)
    records = [
        Record(key=b"%d" % n, value=noise.randbytes(1000), partition=n % 2, timestamp=T + n) for n in range(4000)
    ]
    librdkafka_produce(kafka.bootstrap, source, records, batch_num_messages=50)
    for kill in range(kills):
        with started(config, source, dest, "--rate-limit", 0.5) as child:
            child.errors.wait_for("copied: " if kill % 2 else "copying: ", SECONDS)
            child.kill()
    found = content(ruled.bootstrap, dest)
    assert len(found) < len(records)
    assert migrate(config, source, dest).count("the same 2000 records") == 2
    assert content(ruled.bootstrap, dest) == content(kafka.bootstrap, source)
    assert migrate(config, source, dest).count("the same 2000 records") == 2


def test_stopped_and_run_again(kafka: Cluster, ruled: Proxy, config: Path, names: tuple[str, str]):
    """What came meanwhile is copied too."""
    source, dest = names
    kafka.create_topic(source)
    records = [Record(value=bytes(1000), timestamp=T + n) for n in range(2000)]
    librdkafka_produce(kafka.bootstrap, source, records)
    with started(config, source, dest, "--rate-limit", 0.3) as child:
        child.errors.wait_for("copied: ", SECONDS)
        assert child.stop() == 1
        assert "the same command goes on" in child.lines.so_far()[-1]
    librdkafka_produce(kafka.bootstrap, source, [Record(value=b"late", timestamp=T)])
    assert "the same 2001 records" in migrate(config, source, dest)
    assert content(ruled.bootstrap, dest) == [*records, Record(value=b"late", timestamp=T)]


def test_follow(kafka: Cluster, ruled: Proxy, config: Path, names: tuple[str, str]):
    source, dest = names
    kafka.create_topic(source)
    with started(config, source, dest, "--follow") as child:
        child.errors.wait_for("copying: ", SECONDS)
        librdkafka_produce(kafka.bootstrap, source, [Record(value=b"late", timestamp=T)])
        child.errors.wait_for("copied: 1 records", SECONDS)
        assert child.stop() == 0, child.errors.so_far()
        assert "the same 1 records" in child.lines.so_far()[0]
    assert content(ruled.bootstrap, dest) == [Record(value=b"late", timestamp=T)]


def test_a_destination_that_was_made_anew(kafka: Cluster, ruled: Proxy, config: Path, names: tuple[str, str]):
    """The offsets that are committed are of the topic before: all is copied again."""
    source, dest = names
    kafka.create_topic(source)
    librdkafka_produce(kafka.bootstrap, source, [Record(value=b"x", timestamp=T)])
    migrate(config, source, dest)
    kafka.delete_topic(dest)
    assert "the same 1 records" in migrate(config, source, dest)
    assert content(ruled.bootstrap, dest) == [Record(value=b"x", timestamp=T)]


# What is found at the end ---------------------------------------------------------------------------------------------


def test_what_retention_has_taken_is_not_compared(kafka: Cluster, ruled: Proxy, config: Path, names: tuple[str, str]):
    """Of either topic: the rest is, from the same record on."""
    source, dest = names
    kafka.create_topic(source, partitions=2)
    librdkafka_produce(kafka.bootstrap, source, [Record(value=b"%d" % n, timestamp=T + n) for n in range(10)])
    migrate(config, source, dest)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    place = Place(dest, 0, 5)
    admin.delete_records([place])[place].result(SECONDS)
    librdkafka_produce(kafka.bootstrap, source, [Record(value=b"10", timestamp=T)])
    said = migrate(config, source, dest)
    assert "partition 0: 5 records at the beginning are gone" in said
    assert "partition 0: the same 6 records" in said
    place = Place(source, 0, 7)
    admin.delete_records([place])[place].result(SECONDS)
    assert "partition 0: the same 4 records" in migrate(config, source, dest)


def test_others_records_are_told_apart(kafka: Cluster, ruled: Proxy, config: Path, names: tuple[str, str]):
    source, dest = names
    kafka.create_topic(source)
    librdkafka_produce(kafka.bootstrap, source, [Record(value=b"x", timestamp=T)])
    migrate(config, source, dest)
    librdkafka_produce(ruled.bootstrap, dest, [Record(value=b"switched", timestamp=T)])
    assert "1 further records" in migrate(config, source, dest)
    librdkafka_produce(kafka.bootstrap, source, [Record(value=b"y", timestamp=T)])
    assert "DIFFERENT: offset 1 of " in migrate(config, source, dest, code=1)


def test_dry_run_writes_nothing(kafka: Cluster, config: Path, names: tuple[str, str]):
    source, dest = names
    kafka.create_topic(source, partitions=3)
    librdkafka_produce(kafka.bootstrap, source, ODD)
    said = migrate(config, source, dest, "--dry-run")
    assert "PLAIN (topics[0] plain-*)" in said
    assert "in mode batch (no rule: sealed)" in said
    assert f"at most {len(ODD)} to copy" in said
    assert "can be used" in said
    assert json.loads(migrate(config, source, dest, "--dry-run", "--json"))["keys"] == "can be used"
    assert dest not in AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=SECONDS).topics
