"""Lookups by time that can't be made exact: the broker's answer stays."""

import dataclasses
import random

import pytest

from kveil.proxy.apis import list_offsets, time_lookup
from kveil.proxy.errors import QuestionFailed
from kveil.proxy.keys.errors import KeyUnavailable
from kveil.proxy.needs import OpeningKeyNeed, ReadRecords, RecordsNeed
from tests.support.raw_client import batch
from tests.support.records import at_offset
from tests.support.tampering import flip
from tests.support.time_lookups import (
    MAX_TIMESTAMP,
    STAMPS,
    Log,
    T,
    early,
    look_up,
    stored,
    timed,
)
from tests.vectors.reference import Batch

pytestmark = pytest.mark.usefixtures("fresh_log_limits")


ANSWER = {0: (0, 0, T + 9)}
LEFT = (0, 0, T + 9, 3)


def left(talk, at=T + 6):
    assert look_up(talk, {0: at}, ANSWER) == {0: LEFT}
    (reason,) = early(talk)
    return reason


def test_no_answer_to_the_read(converse):
    talk = converse()
    talk.records = refuse(QuestionFailed("error 29"))
    assert "error 29" in left(talk)


def test_a_batch_that_does_not_open(converse, writer):
    talk = converse()
    talk.records = Log(*[flip(each, len(each) - 60) for each in stored(writer, timed(STAMPS))])
    assert "can't be opened" in left(talk)
    assert len(talk.log.of("batch_unopened")) == 1


@pytest.mark.parametrize("at", [T + 6, MAX_TIMESTAMP])
def test_plain_records_where_none_are_accepted(converse, at):
    talk = converse()
    talk.records = Log(at_offset(timed(STAMPS), 0))
    left(talk, at)


def test_another_topics_or_partitions_records(converse, writer):
    for options in ({"topic": "u"}, {"partition": 1}):
        talk = converse()
        talk.records = Log(*stored(writer, timed(STAMPS), **options))
        assert look_up(talk, {0: T + 6}, ANSWER) == {0: LEFT}


def test_no_key(converse, writer, monkeypatch):
    talk = converse()
    talk.records = Log(*stored(writer, timed(STAMPS)))

    async def unavailable(*_):
        raise KeyUnavailable("down")

    monkeypatch.setattr(talk.shared.keys, "unwrap", unavailable)
    assert "no key can be had" in left(talk)
    assert [type(need) for need in talk.needed] == [RecordsNeed, OpeningKeyNeed]


@pytest.mark.parametrize("records", [b"", b"garbage that is no batch", bytes(200), b"\xff" * 200])
@pytest.mark.parametrize("at", [T + 6, MAX_TIMESTAMP])
def test_what_is_no_batch(converse, records, at):
    talk = converse()
    talk.records = lambda _: ReadRecords(0, 100, memoryview(records))
    left(talk, at)


def test_malformed_records_inside(converse, writer):
    talk = converse()
    talk.records = Log(*stored(writer, Batch(b"no records at all " * 3, 5, max_timestamp=T + 9).encode()))
    left(talk)


def test_batches_of_other_offsets(converse, writer):
    """Before the answered one for a time; elsewhere altogether for the largest."""
    talk = converse()
    (each,) = stored(writer, timed(STAMPS))
    talk.records = lambda _: ReadRecords(7, 100, memoryview(each))
    assert look_up(talk, {0: T + 6}, {0: (0, 7, T + 9)})[0] == (0, 7, T + 9, 3)
    later = at_offset(each, 50)
    talk.records = lambda _: ReadRecords(7, 100, memoryview(later))
    assert look_up(talk, {0: MAX_TIMESTAMP}, {0: (0, 7, T + 9)})[0] == (0, 7, T + 9, 3)
    assert len(early(talk)) == 2


def test_offsets_and_times_out_of_range(converse, writer):
    (each,) = stored(writer, timed(STAMPS))
    talk = converse(topics=[{"match": "*", "accept_plain": True}])
    for records in (
        at_offset(each, 2**63 - 3),
        Batch(timed([0] * 5)[61:], 5, base_timestamp=2**63 - 1, max_timestamp=2**63 - 1).encode(),
        Batch(timed([0, 2**62])[61:], 2, base_timestamp=2**62 + 5, max_timestamp=2**63 - 1).encode(),
    ):
        talk.records = lambda _, records=records: ReadRecords(0, 100, memoryview(records))
        for at in (2**63 - 1, MAX_TIMESTAMP):
            code, offset, stamp, _ = look_up(talk, {0: at}, ANSWER)[0]
            assert (code, offset) == (0, 0)
            assert stamp in {T + 9, 2**63 - 1}


def test_the_largest_timestamp_is_no_records(converse, writer):
    """A client that fills in its header wrongly."""
    wrong = bytearray(timed(STAMPS))
    whole = Batch(bytes(wrong[61:]), 5, base_timestamp=STAMPS[0], max_timestamp=T + 77).encode()
    talk = converse()
    talk.records = Log(*stored(writer, whole))
    assert "names" in left(talk, MAX_TIMESTAMP)


def test_a_broker_that_does_not_say_where_the_end_is(converse, writer):
    """As one without transactions may do: nothing found is then no proof that there is nothing."""
    talk = converse()
    log = Log(*stored(writer, timed([T + 9, T])), begin=1)
    talk.records = lambda need: dataclasses.replace(log(need), end=-1)
    assert "no batch" in left(talk)


def test_batches_without_end(converse, writer):
    talk = converse()
    (each,) = stored(writer, timed([T + 9, T]))
    asked = []

    def endless(need):
        asked.append(need)
        return ReadRecords(need.offset, 2**40, memoryview(at_offset(each, need.offset)))

    talk.records = endless
    assert look_up(talk, {0: T + 10}, ANSWER) == {0: LEFT}
    assert len(asked) == time_lookup.MAX_READS
    assert str(time_lookup.MAX_READS) in early(talk)[0]


def test_more_bytes_than_a_frame_may_have(converse, writer):
    talk = converse(limits={"frame_bytes": 65536})
    logs = {index: Log(*stored(writer, noisy(), partition=index)) for index in range(8)}
    talk.records = lambda need: logs[need.partition](need)
    answers = look_up(talk, dict.fromkeys(logs, T + 1), dict.fromkeys(logs, (0, 0, T + 1)))
    assert [answers[index][1] for index in logs] == [1, 1, 1, 1, 0, 0, 0, 0]
    assert len(early(talk)) == 4


def test_longer_than_a_client_waits(converse, writer):
    talk = converse()
    logs = {index: Log(*stored(writer, timed([T, T + 1]), partition=index)) for index in range(8)}

    def slow(need):
        talk.clock.now += list_offsets.LOOKUP_SECONDS / 3
        return logs[need.partition](need)

    talk.records = slow
    answers = look_up(talk, dict.fromkeys(logs, T + 1), dict.fromkeys(logs, (0, 0, T + 1)))
    found = [answers[index][1] for index in logs]
    assert found == [1] * 4 + [0] * 4
    assert len(early(talk)) == 4


def noisy():
    return batch([random.Random(1).randbytes(20_000), b""], timestamp_ms=[T, T + 1])


def refuse(error):
    def read(_):
        raise error

    return read
