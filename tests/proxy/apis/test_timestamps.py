"""Timestamps are judged as a broker judges them, with the indices that a broker names."""

import pytest

from kveil.protocol.kafka import compression
from kveil.proxy.errors import ErrorCode, QuestionFailed
from kveil.proxy.topics import TopicSettings
from tests.support.conversation import read_response
from tests.support.producing import BATCHES, PRODUCE, answered, sent
from tests.support.records import produced
from tests.vectors.reference import Batch, record

NOW_MS = 1_000_000
"""What the conversation's clock says."""
HOUR_MS = 3_600_000
UNLIMITED = 2**63 - 1


def stamped(*timestamps: int, codec: int = 0, attributes: int = 0) -> bytes:
    """A batch with these timestamps."""
    section = b"".join(record(at, None, b"v", delta=time - timestamps[0]) for at, time in enumerate(timestamps))
    return Batch(
        compression.compress(codec, section),
        len(timestamps),
        attributes=attributes | codec,
        base_timestamp=timestamps[0],
        max_timestamp=max(timestamps),
    ).encode()


def settings(*, before: int = UNLIMITED, after: int = HOUR_MS, kind: str = "CreateTime") -> TopicSettings:
    return TopicSettings(
        cleanup_policy=frozenset({"delete"}),
        message_timestamp_type=kind,
        message_timestamp_before_max_ms=before,
        message_timestamp_after_max_ms=after,
    )


def refused(converse, batch: bytes, found: TopicSettings) -> list[int]:
    """The indices of the records that were refused; none where the batch was sent."""
    talk = converse()
    talk.settings["t"] = found
    talk.client(PRODUCE, 9, produced({"t": {0: batch}}))
    if sent_frames := list(talk.session.to_broker):
        assert sent_frames
        assert ("t", 0) in sent(talk)
        return []
    (frame,) = talk.to_client
    assert answered(9, frame) == [("t", 0, ErrorCode.INVALID_TIMESTAMP, -1)]
    (part,) = read_response(PRODUCE, 9, frame).responses[0].partition_responses
    return [error.batch_index for error in part.record_errors]


@pytest.mark.parametrize("codec", range(5))
def test_every_record_that_is_out_of_range_is_named(converse, codec):
    times = [NOW_MS, NOW_MS - 101, NOW_MS + 51, NOW_MS - 100, NOW_MS + 50]
    assert refused(converse, stamped(*times, codec=codec), settings(before=100, after=50)) == [1, 2]


@pytest.mark.parametrize(
    ("times", "before", "named"),
    [
        ([NOW_MS + HOUR_MS], UNLIMITED, []),
        ([NOW_MS + HOUR_MS + 1], UNLIMITED, [0]),
        ([0, NOW_MS], UNLIMITED, []),
        ([0, NOW_MS], 5000, [0]),
        ([-1, NOW_MS], 5000, []),
    ],
)
def test_the_usual_settings(converse, times, before, named):
    assert refused(converse, stamped(*times), settings(before=before)) == named


def test_the_broker_stamps_by_itself(converse):
    assert refused(converse, stamped(0, NOW_MS + 9 * HOUR_MS), settings(before=1, kind="LogAppendTime")) == []


@pytest.mark.parametrize(("kind", "named"), [("LogAppendTime", [0, 1]), ("CreateTime", [])])
def test_a_client_may_not_say_that_it_is_the_broker(converse, kind, named):
    assert refused(converse, stamped(NOW_MS, NOW_MS, attributes=0x08), settings(kind=kind)) == named


def test_settings_that_were_not_told_allow_everything(converse):
    assert refused(converse, stamped(0, 2**60), TopicSettings(cleanup_policy=frozenset({"delete"}))) == []


def test_a_pinned_mode_without_settings_leaves_it_to_the_broker(converse):
    talk = converse(topics=BATCHES)
    talk.settings["t"] = QuestionFailed("no answer")
    talk.client(PRODUCE, 9, produced({"t": {0: stamped(0)}}))
    assert ("t", 0) in sent(talk)


def test_records_that_cannot_be_read_are_refused(converse):
    talk = converse()
    talk.settings["t"] = settings(before=1)
    broken = Batch(b"\x0e" + b"\xff" * 13, 2, base_timestamp=NOW_MS, max_timestamp=NOW_MS).encode()
    talk.client(PRODUCE, 9, produced({"t": {0: broken}}))
    assert talk.to_broker == []
    assert answered(9, talk.to_client[0]) == [("t", 0, ErrorCode.INVALID_RECORD, -1)]
