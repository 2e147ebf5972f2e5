"""Key files in use: rotation under running proxies, one file for two hosts, and a file that isn't the right one."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError
from confluent_kafka import TopicPartition as Place

from kveil.protocol.envelope.batch import peek
from kveil.protocol.kafka.record_batch import read_header, split_batches
from tests.support.clients import Record, librdkafka, librdkafka_produce, librdkafka_read, numbered
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil, kveil_proxy
from tests.support.raw_client import RawClient, batch

SECONDS = 60.0
T = 1_700_000_000_000
CORRUPT_MESSAGE = 2


def make_keys(path: Path, *more: str) -> Path:
    done = kveil("keys", "init", "--keys", str(path), *more)
    assert done.returncode == 0, done.stderr
    return path


def listed(path: Path) -> list[dict]:
    """The default key's versions, as `kveil keys list` has them."""
    done = kveil("keys", "list", "--keys", str(path), "--json")
    assert done.returncode == 0, done.stderr
    (key,) = json.loads(done.stdout)["keys"]
    return key["versions"]


def rotate(path: Path) -> None:
    done = kveil("keys", "rotate", "--keys", str(path))
    assert done.returncode == 0, done.stderr


@pytest.fixture
def pair(kafka: Cluster, tmp_path: Path) -> Iterator[tuple[Proxy, Proxy]]:
    """Two proxies over one key file, as two hosts with a copy each."""
    keys = make_keys(tmp_path / "keys.json")
    with kveil_proxy(kafka.bootstrap, keys=keys) as one, kveil_proxy(kafka.bootstrap, keys=keys) as two:
        yield one, two


def records(text: str) -> list[Record]:
    return [Record(value=f"{text} {number}".encode(), timestamp=T) for number in range(20)]


def test_one_seals_and_the_other_opens(kafka: Cluster, pair: tuple[Proxy, Proxy], topic: str):
    """Both ways, in one topic."""
    one, two = pair
    kafka.create_topic(topic)
    librdkafka_produce(one.bootstrap, topic, records("by one"))
    assert librdkafka_read(two.bootstrap, topic) == numbered(records("by one"))
    librdkafka_produce(two.bootstrap, topic, records("by two"))
    for each in pair:
        assert librdkafka_read(each.bootstrap, topic) == numbered(records("by one") + records("by two"))


def created_versions(proxy: Proxy, topic: str) -> list[str]:
    """The key versions that the proxy has sealed the topic under, as its audit lines say."""
    lines = [line["cloudevent"] for line in proxy.events("audit")]
    created = [line for line in lines if line["type"].endswith("key.created") and line["subject"] == topic]
    return [line["data"]["version"] for line in created]


def stored_versions(kafka: Cluster, topic: str) -> list[str]:
    """The key version that each stored batch names, in order."""
    batches = list(split_batches(memoryview(kafka.stored_bytes(topic))))
    return [peek(each, read_header(each)).block.version for each in batches]


@pytest.mark.parametrize("told", [True, False], ids=["SIGHUP", "by itself"])
def test_a_rotation_is_taken_up(kafka: Cluster, pair: tuple[Proxy, Proxy], topic: str, told: bool):
    """New batches name the new version, and the old ones still open: here, and at the other host."""
    sealing, opening = pair
    kafka.create_topic(topic)
    with RawClient(sealing.bootstrap) as client:
        produce(client, topic, b"before")
        assert len(listed(sealing.keys)) == 1
        rotate(sealing.keys)
        if told:
            sealing.signal(signal.SIGHUP)
            sealing.wait_for_event("keys_reloaded", SECONDS)
        count = 1
        deadline = time.monotonic() + SECONDS
        while len(created_versions(sealing, topic)) < 2:
            assert time.monotonic() < deadline, "the new version was not taken up"
            produce(client, topic, b"after")
            count += 1
    versions = created_versions(sealing, topic)
    assert versions == [each["version"] for each in listed(sealing.keys)]
    stored = stored_versions(kafka, topic)
    assert len(stored) == count
    assert stored == [versions[0]] * stored.count(versions[0]) + [versions[1]] * stored.count(versions[1])
    assert stored[-1] == versions[1]
    for proxy in pair:
        values = [record.value for record in librdkafka_read(proxy.bootstrap, topic)]
        assert values == [b"before"] + [b"after"] * (count - 1)
    assert not opening.events("batch_unopened")


def produce(client: RawClient, topic: str, value: bytes) -> None:
    assert client.produce({topic: {0: batch([value])}})[topic, 0][0] == 0


def test_old_data_opens_after_a_restart(kafka: Cluster, pair: tuple[Proxy, Proxy], topic: str):
    """From the file alone, which has all versions."""
    one, _ = pair
    kafka.create_topic(topic)
    librdkafka_produce(one.bootstrap, topic, records("first"))
    for _ in range(2):
        rotate(one.keys)
        one.stop()
        one.start()
    librdkafka_produce(one.bootstrap, topic, records("third"))
    assert librdkafka_read(one.bootstrap, topic) == numbered(records("first") + records("third"))
    assert len(listed(one.keys)) == 3


@pytest.mark.parametrize("same_realm", [True, False])
def test_another_key_file(kafka: Cluster, tmp_path: Path, topic: str, same_realm: bool):
    """CORRUPT_MESSAGE to the client, and the reason in the log; with the right file all of it opens."""
    right = make_keys(tmp_path / "right.json", "--realm", "one")
    wrong = make_keys(tmp_path / "wrong.json", "--realm", "one" if same_realm else "two")
    kafka.create_topic(topic)
    with kveil_proxy(kafka.bootstrap, keys=right) as sealing:
        librdkafka_produce(sealing.bootstrap, topic, records("sealed"), linger_ms=100)
        with kveil_proxy(kafka.bootstrap, keys=wrong) as stranger:
            with RawClient(stranger.bootstrap) as client:
                fetched = client.fetch(topic)
                assert (fetched.error, fetched.records) == (CORRUPT_MESSAGE, b"")
            consumer = Consumer(librdkafka(stranger.bootstrap, group_id=topic, enable_auto_commit=False))
            consumer.assign([Place(topic, 0, 0)])
            (message,) = consumer.consume(1, SECONDS)
            consumer.close()
            assert message.error().code() == KafkaError.INVALID_MSG
            (line,) = stranger.events("batch_unopened")
            assert (line["topic"], line["partition"], line["first_offset"]) == (topic, 0, 0)
            assert "key" in line["reason"]
        assert librdkafka_read(sealing.bootstrap, topic) == numbered(records("sealed"))


def test_a_copy_that_lacks_the_new_version(kafka: Cluster, tmp_path: Path, topic: str):
    """The reader's host gets the file later: what is sealed under the new version opens as soon as it is there."""
    writers = make_keys(tmp_path / "writers.json")
    readers = tmp_path / "readers.json"
    copy(writers, readers)
    kafka.create_topic(topic)
    limits = {"limits": {"refused_key_seconds": 0.1}}
    with kveil_proxy(kafka.bootstrap, keys=readers, config=limits) as reader:
        rotate(writers)
        with kveil_proxy(kafka.bootstrap, keys=writers) as writer:
            librdkafka_produce(writer.bootstrap, topic, records("new"))
        with RawClient(reader.bootstrap) as client:
            assert client.fetch(topic).error == CORRUPT_MESSAGE
            reason = reader.wait_for_event("batch_unopened")["reason"]
            assert "has no version" in reason
            copy(writers, readers)
            reader.signal(signal.SIGHUP)
            reader.wait_for_event("keys_reloaded", SECONDS)
            assert client.fetch(topic).error == 0
        assert librdkafka_read(reader.bootstrap, topic) == numbered(records("new"))


def copy(source: Path, target: Path) -> None:
    """As a deployment tool does it: a whole new file in the place of the old one."""
    new = target.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_bytes(source.read_bytes())
    new.replace(target)
