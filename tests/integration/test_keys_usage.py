"""What a cluster's topics need of keys, as `kveil keys usage` and `kveil check --cluster` say it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import Record, librdkafka_produce
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil, kveil_proxy

T = 1_700_000_000_000
PARTITIONS = 3


@pytest.fixture
def proxy(kafka3: Cluster) -> Iterator[Proxy]:
    with kveil_proxy(kafka3.bootstrap) as running:
        yield running


def produce(bootstrap: str, topic: str, partition: int, count: int, at: int) -> None:
    records = [Record(value=b"v", key=b"k", partition=partition, timestamp=at + n) for n in range(count)]
    librdkafka_produce(bootstrap, topic, records, linger_ms=100)


def rotate(proxy: Proxy) -> None:
    assert kveil("keys", "rotate", "--keys", str(proxy.keys)).returncode == 0
    proxy.stop()
    proxy.start()


def usage(proxy: Proxy, *arguments: str) -> dict[str, Any]:
    done = kveil("keys", "usage", *arguments, "-c", str(proxy.folder / "kveil.yaml"), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def records_by_version(found: dict[str, Any]) -> dict[str, dict[int, int]]:
    """How many records of each partition need which version."""
    return {key["version"]: {each["partition"]: each["records"] for each in key["partitions"]} for key in found["keys"]}


@pytest.mark.parametrize("policy", ["delete", "compact"])
def test_usage_says_which_versions_are_needed(kafka3: Cluster, proxy: Proxy, topic: str, policy: str):
    """Every partition is asked of its own leader, and nothing is opened."""
    kafka3.create_topic(topic, partitions=PARTITIONS, config={"cleanup.policy": policy})
    for partition in range(PARTITIONS):
        produce(proxy.bootstrap, topic, partition, 10 + partition, T)
    rotate(proxy)
    produce(proxy.bootstrap, topic, 1, 5, T + 1000)
    produce(kafka3.bootstrap, topic, 2, 7, T)
    rotate(proxy)
    found = usage(proxy, topic)
    assert found["partitions"] == PARTITIONS
    assert records_by_version(found) == {"1": {0: 10, 1: 11, 2: 12}, "2": {1: 5}}
    (second,) = found["keys"][1]["partitions"]
    assert (second["first_offset"], second["last_offset"]) == (11, 15)
    assert T + 1000 <= second["oldest"] <= second["newest"] == T + 1004
    assert [(each["partition"], each["records"]) for each in found["plain"]] == [(2, 7)]
    assert found["unreadable"] == []
    assert found["not_needed"] == [{"provider": "keyfile", "name": "default", "versions": ["3"], "primary": "3"}]
    # From an offset on: the batch that holds it counts whole.
    later = usage(proxy, topic, "--from", "11")
    assert "1" not in records_by_version(later) or set(records_by_version(later)["1"]) <= {2}
    assert records_by_version(later)["2"] == {1: 5}
    assert not proxy.events("batch_unopened")


def test_a_version_that_is_needed_nowhere_can_be_destroyed(kafka3: Cluster, proxy: Proxy, topic: str):
    """The drill: rotate, write all anew, look, destroy, and all that is left opens."""
    kafka3.create_topic(topic)
    rotate(proxy)
    produce(proxy.bootstrap, topic, 0, 3, T)
    shown = kveil("keys", "usage", topic, "-c", str(proxy.folder / "kveil.yaml"))
    assert "needed: keyfile:default version 2, " in shown.stdout
    assert "needed nowhere here: keyfile:default version 1" in shown.stdout
    destroy = ("keys", "destroy", "default", "--yes", "--keys", str(proxy.keys), "--version")
    assert kveil(*destroy, "2").returncode == 2
    assert kveil(*destroy, "1").returncode == 0
    found = usage(proxy, topic)
    assert (records_by_version(found), found["not_needed"]) == ({"2": {0: 3}}, [])


def test_usage_of_what_is_not_there(proxy: Proxy):
    done = kveil("keys", "usage", "nobody-made-it", "-c", str(proxy.folder / "kveil.yaml"))
    assert done.returncode == 1
    assert done.stderr == "kveil: nobody-made-it: the broker answered unknown_topic_or_partition\n"


def test_check_flags_topics_without_a_key(kafka3: Cluster, topic: str, tmp_path: Path):
    keys = tmp_path / "keys.json"
    names = [f"{topic}-{kind}" for kind in ("has", "lacks", "plain")]
    for name in names:
        kafka3.create_topic(name)
    assert kveil("keys", "init", "--keys", str(keys), "--key", "default", "--key", f"k-{names[0]}").returncode == 0
    rules = [{"match": "*-plain", "seal": "none"}, {"match": f"{topic}-*", "key": "k-{topic}"}]
    with kveil_proxy(kafka3.bootstrap, topics=rules, keys=keys) as proxy:
        config = str(proxy.folder / "kveil.yaml")
        done = kveil("check", "--cluster", "-c", config, *names)
        assert done.returncode == 1, done.stderr
        has, lacks, plain = done.stdout.splitlines()[1:]
        assert has == f"ok      {names[0]}: sealed, mode auto, key keyfile:k-{names[0]} (topics[1] {topic}-*)"
        assert lacks.startswith(f"WARNING {names[1]}: sealed, ")
        assert f"NO KEY: the key file {keys} has no key k-{names[1]}" in lacks
        assert plain == f"ok      {names[2]}: PLAIN (topics[0] *-plain)"
        assert kveil("keys", "add", f"k-{names[1]}", "--keys", str(keys)).returncode == 0
        done = kveil("check", "--cluster", "-c", config, "--json")
        assert kveil("check", "--cluster", "-c", config, *names).returncode == 0
    topics = {each["topic"]: each for each in json.loads(done.stdout)["topics"]}
    assert topics.keys() >= set(names)
    assert topics[names[1]]["problem"] is None
    assert all(not topics[name]["internal"] for name in names)
