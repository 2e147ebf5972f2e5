"""Produce: what a broker says of single records of a batch that was sealed as a whole."""

import pytest

from kveil.proxy.errors import ErrorCode
from tests.support.conversation import read_response
from tests.support.producing import BATCHES, PRODUCE, broker_answers
from tests.support.records import client_batch, produced

METADATA = 3
INVALID_TIMESTAMP = 32
GOOD = client_batch()
BAD = GOOD[:-1] + bytes((GOOD[-1] ^ 1,))
NAMED = {
    "base_offset": -1,
    "record_errors": [
        {"batch_index": index, "batch_index_error_message": "Compacted topic cannot accept message without key"}
        for index in (1, 2)
    ],
    "error_message": "2 record errors in total: [RecordError(batchIndex=1), RecordError(batchIndex=2)]",
}
VERSIONS = range(8, 14)
IDS = {"t": b"t" * 16, "logs": b"l" * 16}


def answer(talk, version, topics, parts):
    """What the client got for each partition: error, indices of records, text."""
    by = {name: IDS[name] if version >= 13 else name for name in IDS}
    told = [{"name": name, "topic_id": topic_id, "partitions": []} for name, topic_id in IDS.items()]
    talk.broker(METADATA, 12, talk.client(METADATA, 12), {"topics": told})
    number = talk.client(PRODUCE, version, produced({by[name]: each for name, each in topics.items()}))
    broker_answers(talk, version, number, {by[name]: each for name, each in parts.items()}, throttle_time=7)
    found = read_response(PRODUCE, version, talk.to_client[-1])
    assert found.throttle_time.total_seconds() == 0.007  # what follows the lists is where it was
    return [
        (int(part.error_code), [each.batch_index for each in part.record_errors], part.error_message)
        for topic in found.responses
        for part in topic.partition_responses
    ]


@pytest.mark.parametrize("version", VERSIONS)
class TestSealedAsAWhole:
    def test_names_no_records(self, converse, version):
        """The rule pins the mode, so that the answer is the broker's; other partitions are as they were."""
        parts = {0: {"base_offset": 5}, 1: {"error_code": ErrorCode.INVALID_RECORD, **NAMED}, 2: {"base_offset": 6}}
        first, bad, last = answer(converse(topics=BATCHES), version, {"t": dict.fromkeys(parts, GOOD)}, {"t": parts})
        assert (first, last) == ((0, [], None), (0, [], None))
        code, indices, text = bad
        assert (code, indices) == (ErrorCode.INVALID_RECORD, [])
        assert "compacted topic" in text
        assert "RecordError" not in text

    def test_nor_with_a_refusal_of_the_proxys_own(self, converse, version):
        part = {"error_code": INVALID_TIMESTAMP, **NAMED}
        own, brokers = answer(converse(topics=BATCHES), version, {"t": {0: BAD, 1: GOOD}}, {"t": {1: part}})
        assert own[0] == ErrorCode.CORRUPT_MESSAGE
        assert brokers[:2] == (INVALID_TIMESTAMP, [])
        assert "compacted" not in brokers[2]

    def test_nor_where_the_client_shall_try_again(self, converse, version):
        part = {"error_code": ErrorCode.INVALID_RECORD, **NAMED}
        ((code, indices, _),) = answer(converse(), version, {"t": {0: GOOD}}, {"t": {0: part}})
        assert (code, indices) == (ErrorCode.NOT_ENOUGH_REPLICAS, [])

    def test_texts_without_records_stay(self, converse, version):
        part = {
            "error_code": ErrorCode.TOPIC_AUTHORIZATION_FAILED,
            "base_offset": -1,
            "error_message": "not on a Sunday",
        }
        found = answer(converse(topics=BATCHES), version, {"t": {0: GOOD}}, {"t": {0: part}})
        assert found == [(ErrorCode.TOPIC_AUTHORIZATION_FAILED, [], "not on a Sunday")]


@pytest.mark.parametrize("version", VERSIONS)
def test_plain_topics_keep_the_brokers_word(converse, version):
    """Also beside a sealed one in the same request."""
    talk = converse(topics=[{"match": "logs", "seal": "none"}, *BATCHES])
    part = {"error_code": ErrorCode.INVALID_RECORD, **NAMED}
    plain, sealed = answer(talk, version, {"logs": {0: GOOD}, "t": {0: GOOD}}, {"logs": {0: part}, "t": {0: part}})
    assert plain == (ErrorCode.INVALID_RECORD, [1, 2], NAMED["error_message"])
    assert sealed[1] == []
