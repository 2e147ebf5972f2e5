"""One key per record key, through the proxy and a real broker: customers, one of whom is erased."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as Place

from tests.support.clients import Record, librdkafka, librdkafka_produce, librdkafka_read, numbered
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.processes import Child
from tests.support.proxy import KVEIL, Proxy, kveil, kveil_proxy
from tests.support.raw_client import RawClient, batch

T = 1_700_000_000_000
SECONDS = 60.0
KEY_TOPIC = "_kveil.keys"
CORRUPT_MESSAGE, TOPIC_AUTHORIZATION_FAILED = 2, 29
ERASED = (("kveil-erased", b"the epoch key of this record key was erased"),)


def rule(**more: object) -> dict[str, object]:
    return {"match": "people*", "mode": "record", "key": "customers", "key_per": "record_key", **more}


CLEAR = {"keys": "clear", "erased": "null"}


@pytest.fixture(scope="module")
def kafka() -> Iterator[Cluster]:
    """A cluster for these tests alone: its key topic is theirs."""
    with kafka_cluster() as cluster:
        yield cluster


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    done = kveil("keys", "init", "--keys", str(path), "--key", "default", "--key", "customers")
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def people(topic: str, kafka: Cluster) -> Iterator[str]:
    """A topic, and a key topic that nobody has used."""
    name = f"people-{topic}"
    kafka.create_topic(name)
    yield name
    kafka.delete_topic(KEY_TOPIC)


def records(*keys: bytes | None, text: str = "of") -> list[Record]:
    return [
        Record(key=key, value=b"%b %a, number %d" % (text.encode(), key, at), timestamp=T + at)
        for at, key in enumerate(keys)
    ]


CUSTOMERS = records(b"alice", b"bob", None, b"alice", b"carol", b"bob")


def shred(proxy: Proxy, *arguments: str) -> str:
    """Run `kveil keys shred`, which must succeed, and give what it says."""
    done = kveil("keys", "shred", *arguments, "-c", str(proxy.folder / "kveil.yaml"))
    assert done.returncode == 0, done.stderr
    return done.stdout


def rotate(keys: Path) -> None:
    done = kveil("keys", "rotate", "customers", "--keys", str(keys))
    assert done.returncode == 0, done.stderr


def versions(keys: Path) -> list[str]:
    """Of the customers' key, as the key file has them."""
    done = kveil("keys", "list", "--keys", str(keys), "--json")
    (key,) = [one for one in json.loads(done.stdout)["keys"] if one["name"] == "customers"]
    return [one["version"] for one in key["versions"]]


def without(erased: bytes, *, all_of: list[Record] = CUSTOMERS) -> list[Record]:
    """What a consumer gets where keys are in clear and erased ones null."""
    return numbered(replace(one, value=None, headers=ERASED) if one.key == erased else one for one in all_of)


def test_records_open_here_and_at_another_proxy(kafka: Cluster, keys: Path, people: str):
    with (
        kveil_proxy(kafka.bootstrap, keys=keys, topics=[rule()]) as one,
        kveil_proxy(kafka.bootstrap, keys=keys, topics=[rule()]) as two,
    ):
        librdkafka_produce(one.bootstrap, people, CUSTOMERS)
        for proxy in (one, two):
            assert librdkafka_read(proxy.bootstrap, people) == numbered(CUSTOMERS)
        assert kafka.topic_config(KEY_TOPIC)["cleanup.policy"] == "compact"
        for marker in (b"alice", b"of b'bob'"):
            assert not kafka.contains(marker)
        # Four record keys, and a generation.
        assert len(librdkafka_read(kafka.bootstrap, KEY_TOPIC)) == 5
        two.stop()
        two.start()
        assert librdkafka_read(two.bootstrap, people) == numbered(CUSTOMERS)
        calls = [line["cloudevent"]["data"] for line in two.events("audit")]
        assert len([call for call in calls if "kid" in call]) == 1, "one unwrap opens all"


def test_one_is_erased_and_the_others_read_on(kafka: Cluster, keys: Path, people: str):
    """By two proxies that run meanwhile, of which one says error."""
    with (
        kveil_proxy(kafka.bootstrap, keys=keys, topics=[rule(**CLEAR)]) as clear,
        kveil_proxy(kafka.bootstrap, keys=keys, topics=[rule(erased="error")]) as strict,
    ):
        librdkafka_produce(clear.bootstrap, people, CUSTOMERS)
        for proxy in (clear, strict):
            assert librdkafka_read(proxy.bootstrap, people) == numbered(CUSTOMERS)
        said = shred(clear, people, "alice")
        began = time.monotonic()
        assert "NOT finished" in said
        assert "alice" not in said
        assert librdkafka_read(clear.bootstrap, people) == without(b"alice")
        print(f"no longer opened {time.monotonic() - began:.3f} s after the command")
        with RawClient(strict.bootstrap) as client:
            assert client.fetch(people).error == CORRUPT_MESSAGE
        assert "its record key was erased" in strict.wait_for_event("batch_unopened")["reason"]
        clear.stop()
        clear.start()
        assert librdkafka_read(clear.bootstrap, people) == without(b"alice")
        # She may come back.
        librdkafka_produce(clear.bootstrap, people, records(b"alice", text="new"))
        assert librdkafka_read(clear.bootstrap, people)[-1].value == b"new b'alice', number 0"
        for proxy in (clear, strict):
            assert b"alice" not in "\n".join(proxy.child.errors.so_far()).encode()


def test_hidden_keys_of_what_is_erased_are_gone_too(kafka: Cluster, keys: Path, people: str):
    with kveil_proxy(kafka.bootstrap, keys=keys, topics=[rule(erased="null")]) as proxy:
        librdkafka_produce(proxy.bootstrap, people, CUSTOMERS)
        said = shred(proxy, people, b"bob".hex(), "--hex", "--json")
        assert json.loads(said) == {"topic": people, "erased": 1, "finished": False}
        found = librdkafka_read(proxy.bootstrap, people)
    stored = librdkafka_read(kafka.bootstrap, people)
    for got, want, wire in zip(found, without(b"bob"), stored, strict=True):
        assert got == (replace(want, key=wire.key) if want.value is None else want)


def test_erasure_is_finished_for_every_copy_of_the_log(kafka: Cluster, keys: Path, people: str, tmp_path: Path):
    """What was the key topic before opens nothing any more; with the key's old version too it would."""
    with kveil_proxy(kafka.bootstrap, keys=keys, topics=[rule(**CLEAR)]) as proxy:
        librdkafka_produce(proxy.bootstrap, people, CUSTOMERS)
        copy_of_log = librdkafka_read(kafka.bootstrap, KEY_TOPIC)
        copy_of_keys = tmp_path / "old.json"
        copy_of_keys.touch(mode=0o600)
        copy_of_keys.write_bytes(keys.read_bytes())
        shred(proxy, people, "alice")
        config = str(proxy.folder / "kveil.yaml")
        early = kveil("keys", "shred", "--finish", "--yes", "-c", config)
        assert early.returncode == 1
        assert "kveil keys rotate customers" in early.stderr
        assert versions(keys) == ["1"]
        rotate(keys)
        unsure = kveil("keys", "shred", "--finish", "--json", "-c", config)
        assert unsure.returncode == 1
        assert json.loads(unsure.stdout) == {"finished": False, "gone": {}, "left": 1}
        assert "NOT" in unsure.stderr
        assert versions(keys) == ["1", "2"]
        done = kveil("keys", "shred", "--finish", "--yes", "--json", "-c", config)
        assert (done.returncode, "1 erased keys are gone for everyone" in done.stderr) == (0, True), done.stderr
        assert json.loads(done.stdout) == {"finished": True, "gone": {"keyfile:customers": 1}, "left": 0}
        assert versions(keys) == ["2"]
        (destroyed,) = [line for line in (done.stdout + done.stderr).splitlines() if "key.destroyed" in line]
        assert "customers" in destroyed
        assert "Nothing waits" in shred(proxy, "--finish")
        assert librdkafka_read(proxy.bootstrap, people) == without(b"alice")
        librdkafka_produce(proxy.bootstrap, people, records(b"bob", b"dave"))
        proxy.stop()
        proxy.start()
        after = [*CUSTOMERS, *records(b"bob", b"dave")]
        assert librdkafka_read(proxy.bootstrap, people) == without(b"alice", all_of=after)
        proxy.stop()
    for place, error in ((keys, CORRUPT_MESSAGE), (copy_of_keys, 0)):
        kafka.delete_topic(KEY_TOPIC)
        kafka.create_topic(KEY_TOPIC, config={"cleanup.policy": "compact"})
        librdkafka_produce(kafka.bootstrap, KEY_TOPIC, copy_of_log)
        with (
            kveil_proxy(kafka.bootstrap, keys=place, topics=[rule(**CLEAR)]) as hostile,
            RawClient(hostile.bootstrap) as client,
        ):
            assert client.fetch(people).error == error


def test_two_proxies_make_keys_for_the_same_customers_at_once(kafka: Cluster, keys: Path, people: str):
    names = [b"customer-%d" % number for number in range(300)]
    with (
        kveil_proxy(kafka.bootstrap, keys=keys, topics=[rule(**CLEAR)]) as one,
        kveil_proxy(kafka.bootstrap, keys=keys, topics=[rule(**CLEAR)]) as two,
    ):
        with ThreadPoolExecutor(2) as pool:
            work = [
                pool.submit(librdkafka_produce, proxy.bootstrap, people, records(*names, text=f"by {number}"))
                for number, proxy in enumerate((one, two))
            ]
        for each in work:
            each.result()
        for proxy in (one, two):
            found = librdkafka_read(proxy.bootstrap, people)
            assert sorted(record.key for record in found) == sorted(names * 2)
        shred(one, people, "customer-7")
        for proxy in (one, two):
            gone = [record.key for record in librdkafka_read(proxy.bootstrap, people) if record.value is None]
            assert gone == [b"customer-7"] * 2


def test_the_log_cleaners_key_is_the_same_for_the_same_customer(kafka: Cluster, keys: Path, people: str):
    """On a compacted topic: one wire key for each, in clear or hidden, and tombstones are authentic."""
    kafka.alter_topic_config(people, {"cleanup.policy": "compact"})
    sent = [*records(b"alice", b"bob", b"alice"), Record(key=b"bob", value=None, timestamp=T)]
    with kveil_proxy(kafka.bootstrap, keys=keys, topics=[rule()]) as proxy:
        librdkafka_produce(proxy.bootstrap, people, sent)
        assert librdkafka_read(proxy.bootstrap, people) == numbered(sent)
    stored = librdkafka_read(kafka.bootstrap, people)
    assert [record.key == stored[0].key for record in stored] == [True, False, True, False]
    assert [record.value is None for record in stored] == [False, False, False, True]


def test_transactions_and_idempotence_are_as_ever(kafka: Cluster, keys: Path, people: str):
    with kveil_proxy(kafka.bootstrap, keys=keys, topics=[rule()]) as proxy:
        producer = Producer(librdkafka(proxy.bootstrap, transactional_id=people))
        producer.init_transactions(SECONDS)
        for commits in (True, False):
            producer.begin_transaction()
            for record in CUSTOMERS:
                producer.produce(people, record.value, record.key, timestamp=record.timestamp, partition=0)
            producer.flush(SECONDS)
            (producer.commit_transaction if commits else producer.abort_transaction)(SECONDS)
        assert librdkafka_read(proxy.bootstrap, people) == numbered(CUSTOMERS)


def test_clients_neither_read_nor_write_the_key_topic(kafka: Cluster, keys: Path, people: str):
    """The proxy's own login may: a client that did could take others' keys away."""
    with kveil_proxy(kafka.bootstrap, keys=keys, topics=[rule()]) as proxy:
        librdkafka_produce(proxy.bootstrap, people, CUSTOMERS)
        with RawClient(proxy.bootstrap) as client:
            assert client.fetch(KEY_TOPIC).error == TOPIC_AUTHORIZATION_FAILED
            assert client.produce({KEY_TOPIC: {0: batch([b"x"])}})[KEY_TOPIC, 0][0] == TOPIC_AUTHORIZATION_FAILED


def test_a_finish_that_is_killed_goes_on(kafka: Cluster, keys: Path, people: str):
    """With SIGKILL in the middle of rewrapping: nobody's records are lost, and the next run ends it."""
    names = [b"customer-%d" % number for number in range(6_000)]
    with kveil_proxy(kafka.bootstrap, keys=keys, topics=[rule(**CLEAR)]) as proxy:
        everybody = records(*names)
        librdkafka_produce(proxy.bootstrap, people, everybody)
        shred(proxy, people, "customer-7")
        rotate(keys)
        finish = Child([*KVEIL, "keys", "shred", "--finish", "--yes", "-c", str(proxy.folder / "kveil.yaml")])
        finish.errors.wait_for("rewrapped", SECONDS)
        finish.kill()
        assert versions(keys) == ["1", "2"]
        assert librdkafka_read(proxy.bootstrap, people) == without(b"customer-7", all_of=everybody)
        shred(proxy, "--finish", "--yes")
        assert versions(keys) == ["2"]
        proxy.stop()
        proxy.start()
        assert librdkafka_read(proxy.bootstrap, people) == without(b"customer-7", all_of=everybody)


def test_a_consumer_that_waits_hears_nothing_of_the_erased(kafka: Cluster, keys: Path, people: str):
    """With a consumer that was there before: the erased customer's records come without value from then on."""
    with kveil_proxy(kafka.bootstrap, keys=keys, topics=[rule(**CLEAR)]) as proxy:
        consumer = Consumer(librdkafka(proxy.bootstrap, group_id=people, enable_auto_commit=False))
        consumer.assign([Place(people, 0, 0)])
        librdkafka_produce(proxy.bootstrap, people, CUSTOMERS)
        assert [one.value() for one in consumer.consume(6, SECONDS)] == [one.value for one in CUSTOMERS]
        shred(proxy, people, "alice")
        consumer.seek(Place(people, 0, 0))
        found = consumer.consume(6, SECONDS)
        consumer.close()
    assert [one.error() for one in found] == [None] * 6
    assert [one.value() is None for one in found] == [one.key == b"alice" for one in CUSTOMERS]
