"""A hundred thousand customers, each with a key of their own: what it takes of memory, time and key-service calls."""

import time
from pathlib import Path

import psutil
import pytest

from tests.support.clients import Record, librdkafka_produce, librdkafka_read
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil, kveil_proxy

MANY = 100_000
RULE = {"match": "people*", "mode": "record", "key": "customers", "key_per": "record_key"}
# Entries of 350 bytes, opened keys of 2 kB (limits.opened_keys), and what the requests under way took at most, which
# the process keeps: 85 to 230 MB, by how many of the producer's came together.
MOST_BYTES = 320 * 1024 * 1024


def resident(proxy: Proxy) -> int:
    return psutil.Process(proxy.pid).memory_info().rss


def key_calls(proxy: Proxy) -> int:
    """Wraps and unwraps, as the audit lines tell of them."""
    kinds = [line["cloudevent"]["type"].rpartition("key.")[2] for line in proxy.events("audit")]
    return len([kind for kind in kinds if kind in {"created", "unwrapped"}])


@pytest.mark.full
def test_a_hundred_thousand_record_keys(kafka: Cluster, topic: str, tmp_path: Path):
    people, keys = f"people-{topic}", tmp_path / "keys.json"
    done = kveil("keys", "init", "--keys", str(keys), "--key", "default", "--key", "customers")
    assert done.returncode == 0, done.stderr
    kafka.create_topic(people)
    records = [Record(key=b"customer-%d" % number, value=b"v" * 100) for number in range(MANY)]
    with (
        kveil_proxy(kafka.bootstrap, keys=keys, topics=[RULE]) as one,
        kveil_proxy(kafka.bootstrap, keys=keys, topics=[RULE], start=False) as two,
    ):
        before = resident(one)
        for attempt in ("new", "known"):
            began = time.monotonic()
            librdkafka_produce(one.bootstrap, people, records, linger_ms=50, batch_size=200_000)
            print(f"{attempt}: {(time.monotonic() - began) / MANY * 1e6:.0f} us a record")
        print(f"sealing took {(resident(one) - before) / 1e6:.0f} MB")
        assert resident(one) - before < MOST_BYTES
        two.start()
        before = resident(two)
        began = time.monotonic()
        found = librdkafka_read(two.bootstrap, people)
        print(f"opened: {(time.monotonic() - began) / MANY / 2 * 1e6:.0f} us a record")
        assert sorted(record.key for record in found) == sorted([record.key for record in records] * 2)
        print(f"opening took {(resident(two) - before) / 1e6:.0f} MB")
        assert resident(two) - before < MOST_BYTES
        # The generation, and the topic's own key, whose lease it is.
        assert (key_calls(one), key_calls(two)) == (2, 1)
