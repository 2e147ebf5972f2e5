"""ListOffsets by time gives what it would give on a plain topic.

A twin topic is written and asked directly, the sealed one through the proxy: the same batches, the same lookups.
"""

import random
import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer

from tests.support.clients import librdkafka
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy
from tests.support.twins import PARTITIONS, Answers, Twins, twin_topics

T = 1_700_000_000_000
SPREAD = 2_000
LATEST, EARLIEST, MAX_TIMESTAMP = -1, -2, -3
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
SECONDS = 30.0


@pytest.fixture
def twins(kafka: Cluster, proxy: Proxy, topic: str) -> Iterator[Twins]:
    with twin_topics(kafka, proxy.bootstrap, topic) as found:
        yield found


def out_of_order(chance: random.Random, count: int, start: int) -> list[int]:
    """Timestamps that wander about, some of them equal."""
    return [start + chance.randrange(SPREAD // 4) for _ in range(count)]


def fill(twins: Twins, chance: random.Random, codec: int) -> list[int]:
    """Batches of one record to hundreds in every partition; returns the timestamps."""
    used = []
    for partition in range(PARTITIONS):
        for number, count in enumerate(chance.sample([1, 2, 3, 16, 50, 129, 400, 700], 6)):
            stamps = out_of_order(chance, count, T + number * SPREAD // 8)
            twins.produce(partition, stamps, codec)
            used += stamps
    return used


def check_everywhere(twins: Twins, chance: random.Random, used: list[int], **options: int) -> None:
    """Random times, times that records have and their neighbours, both ends and beyond."""
    wanted = [0, T - 1, T, max(used), max(used) + 1, 2**62]
    wanted += [chance.randrange(T - 5, max(used) + 5) for _ in range(15)]
    wanted += [chance.choice(used) + chance.randrange(-1, 2) for _ in range(15)]
    for _ in wanted:
        twins.check({index: chance.choice(wanted) for index in range(PARTITIONS)}, **options)
    for special in (LATEST, EARLIEST, MAX_TIMESTAMP):
        twins.check(dict.fromkeys(range(PARTITIONS), special), **options)
    mixed = (LATEST, EARLIEST, MAX_TIMESTAMP, T, chance.choice(used), 2**62)
    twins.check(dict(enumerate(mixed)), **options)


@pytest.mark.parametrize("codec", CODECS)
def test_hundreds_of_lookups(twins: Twins, codec: str):
    chance = random.Random(codec)
    twins.create()
    used = fill(twins, chance, CODECS[codec])
    check_everywhere(twins, chance, used)
    ends = twins.check(dict.fromkeys(range(PARTITIONS), LATEST))
    twins.begin_at({index: chance.randrange(1, ends[index][1]) for index in range(PARTITIONS)})
    check_everywhere(twins, chance, used)
    assert twins.lookups > 400


@pytest.mark.parametrize(
    "version", [*range(1, 10), *(pytest.param(each, marks=pytest.mark.kafka4) for each in (10, 11))]
)
def test_every_version(twins: Twins, version: int):
    twins.create()
    twins.produce(0, [T + 5, T + 9, T + 1])
    for timestamp in (T, T + 6, T + 10):
        twins.check({0: timestamp}, version=version)


def test_answers_are_those_of_the_records(twins: Twins):
    """What equal answers alone would not show: that they aren't the batches' first records."""
    twins.create()
    twins.produce(0, [T + 5, T + 1, T + 9, T + 9, T + 3])
    twins.produce(0, [T + 2, T + 8, T + 7])
    assert twins.check({0: T + 6})[0] == (0, 2, T + 9, 0)
    assert twins.check({0: MAX_TIMESTAMP})[0] == (0, 2, T + 9, 0)
    twins.begin_at({0: 4})
    assert twins.check({0: T + 4})[0] == (0, 6, T + 8, 0)
    assert twins.check({0: T + 9})[0] == (0, -1, -1, -1)
    assert twins.check({0: MAX_TIMESTAMP})[0] == (0, 2, T + 9, 0)  # before the log's start, as brokers have it


def test_a_log_that_starts_behind_a_clock_that_was_wrong(twins: Twins):
    """The first batch's maximum is far ahead, but the record that has it was deleted: many batches are to be read."""
    twins.create()
    twins.produce(0, [T + 9_000, T])
    for number in range(300):
        twins.produce(0, [T + number, T + number + 1])
    twins.begin_at({0: 1})
    for timestamp in (T + 1, T + 150, T + 300, T + 301, T + 8_999):
        twins.check({0: timestamp})


def test_times_of_the_broker(twins: Twins):
    """Under LogAppendTime the broker sees what there is to see. Both sides are asked of the sealed topic."""
    twins.create(**{"message.timestamp.type": "LogAppendTime"})
    (direct, _), (through, name) = twins.sides
    for count in (3, 200, 1, 50):
        twins.produce(0, [T + number % 7 for number in range(count)], CODECS["lz4"])

    def check() -> None:
        offsets = {}
        for timestamp in (MAX_TIMESTAMP, 0, T, *stamps, *(stamp + 1 for stamp in stamps)):
            found = through.list_offsets(name, {0: timestamp})
            assert found == direct.list_offsets(name, {0: timestamp})
            offsets[timestamp] = found[0][1]
        assert offsets[0] == first
        assert offsets[max(stamps) + 1] == -1

    headers = [each[35:43] for each in direct.fetch(name).batches]  # maxTimestamp
    stamps, first = [int.from_bytes(each, "big") for each in headers], 0
    check()
    twins.begin_at({0: 100})
    first = 100
    check()


def test_transactions(kafka: Cluster, proxy: Proxy, twins: Twins):
    """Aborted records count, as for a broker; what is not yet decided is out of committed readers' reach."""
    twins.create()
    producers = []
    for bootstrap, (_, name) in zip((kafka.bootstrap, proxy.bootstrap), twins.sides, strict=True):
        producer = transactional(bootstrap, name)
        producers.append(producer)
        for partition, end in ((0, producer.abort_transaction), (0, producer.commit_transaction), (1, None)):
            producer.begin_transaction()
            for stamp in (5, 1, 9, 3):
                producer.produce(name, b"%d" % stamp, partition=partition, timestamp=T + stamp)
            assert producer.flush(SECONDS) == 0
            if end is not None:
                end(SECONDS)
    for side in (0, 1):  # markers are written a moment after the answer
        wait_for(lambda side=side: twins.ask({0: LATEST}, isolation_level=1)[side][0][1] == 10)
    for level in (0, 1):
        for timestamp in (*range(T, T + 12), MAX_TIMESTAMP):
            plain, sealed = twins.ask({0: timestamp, 1: timestamp}, isolation_level=level)
            assert unmarked(sealed) == unmarked(plain), (timestamp, level)
            assert (plain[1][1] == -1) is (level == 1 or timestamp > T + 9)
    assert twins.ask({0: T + 6})[1] == {0: (0, 2, T + 9, 0)}
    for producer in producers:
        producer.abort_transaction(SECONDS)


def unmarked(answers: Answers) -> Answers:
    """Without the times of markers, which the broker wrote today."""
    return {
        index: (code, offset, stamp if stamp < T + SPREAD else 0, epoch)
        for index, (code, offset, stamp, epoch) in answers.items()
    }


def transactional(bootstrap: str, name: str) -> Producer:
    settings = librdkafka(bootstrap, transactional_id=name, linger_ms=500, enable_idempotence=True)
    producer = Producer(settings)
    producer.init_transactions(SECONDS)
    return producer


def wait_for(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)
