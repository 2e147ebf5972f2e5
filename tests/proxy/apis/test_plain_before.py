"""`plain_before`: plain batches pass up to an offset that the operator fixed, and none from there on."""

import gzip

import pytest

from kveil.proxy import log
from kveil.proxy.errors import ErrorCode
from tests.support.fetching import fetch, fetch_one
from tests.support.records import at_offset, client_batch, sealed
from tests.vectors.reference import Batch, client_records, record

CORRUPT = ErrorCode.CORRUPT_MESSAGE
THREE = client_batch(3)
MARK = 10
TOPICS = [{"match": "t", "plain_before": {0: MARK}}]


@pytest.fixture(autouse=True)
def fresh(fresh_log_limits):
    """Each test reads its own lines."""


@pytest.mark.parametrize("first", [0, 6, 7])
def test_a_plain_batch_before_it_passes(converse, first):
    talk = converse(topics=TOPICS)
    assert fetch_one(talk, at_offset(THREE, first)) == (0, at_offset(THREE, first))


@pytest.mark.parametrize("first", [8, 9, 10, 11, 2**40])
def test_one_that_spans_it_or_stands_behind_it_is_refused(converse, first):
    talk = converse(topics=TOPICS)
    assert fetch_one(talk, at_offset(THREE, first)) == (CORRUPT, b"")
    assert "no envelope" in talk.log.of("batch_unopened")[-1]["reason"]


def test_it_holds_for_its_partition_alone(converse):
    """A partition that the map leaves out has no plain records at all."""
    talk = converse(topics=[{"match": "t", "plain_before": {1: MARK}}])
    plain = at_offset(THREE, 0)
    assert fetch(talk, {"t": {0: plain, 1: plain}}) == {("t", 0): (CORRUPT, b""), ("t", 1): (0, plain)}


def test_sealed_batches_pass_on_both_sides(converse, writer):
    talk = converse(topics=TOPICS)
    for first in (0, 9, MARK, 500):
        assert fetch_one(talk, sealed(writer, "t", 0, THREE, offset=first)) == (0, at_offset(THREE, first))


def test_plain_then_sealed_then_plain(converse, writer):
    """What stands before the first batch that doesn't pass is delivered."""
    talk = converse(topics=TOPICS)
    good = at_offset(THREE, 7), sealed(writer, "t", 0, THREE, offset=10)
    assert fetch_one(talk, b"".join(good) + at_offset(THREE, 13)) == (0, at_offset(THREE, 7) + at_offset(THREE, 10))
    assert talk.log.of("batch_unopened")[-1]["first_offset"] == 13


def test_a_compressed_batch_passes(converse):
    talk = converse(topics=TOPICS)
    batch = at_offset(Batch(gzip.compress(client_records(3)), 3, attributes=1).encode(), 0)
    assert fetch_one(talk, batch) == (0, batch)


def test_a_record_behind_its_batchs_last_offset_is_refused(converse):
    """The header says offsets 0 to 0, and a client would give the record out as offset 10."""
    forged = Batch(record(MARK, None, b"forged"), 1, last_offset_delta=0).encode()
    assert fetch_one(converse(topics=TOPICS), at_offset(forged, 0)) == (CORRUPT, b"")


@pytest.mark.parametrize("topics", [TOPICS, [{"match": "t", "accept_plain": True}]])
def test_what_passes_is_audited(converse, topics, audited, monkeypatch):
    talk = converse(topics=topics)
    fetch_one(talk, at_offset(THREE, 4))
    fetch_one(talk, at_offset(THREE, 7))
    (event,) = passed(audited)  # the second a moment later is held back
    data = event["data"]
    assert (event["subject"], data["partition"], data["first_offset"]) == ("t", 0, 4)
    assert data["rule"] == "topics[0] t"
    assert (data["address"], data["operation"]) == ("127.0.0.1", "Fetch")
    monkeypatch.setattr(log, "_repeats", log.RepeatLimit())
    fetch_one(talk, at_offset(THREE, 7))
    assert len(passed(audited)) == 2


def passed(events):
    return [event for event in events if event["type"] == "io.kveil.plain.passed"]
