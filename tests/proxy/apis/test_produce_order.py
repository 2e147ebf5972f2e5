"""Produce: idempotent producers (R8) and topic ids (R10)."""

import pytest

from kveil.proxy.errors import ErrorCode, QuestionFailed
from kveil.proxy.needs import TopicNameNeed
from kveil.proxy.topics import TopicSettings
from tests.support.conversation import DELETED
from tests.support.producing import BATCHES, PRODUCE, answered, sent
from tests.support.records import client_batch, idempotent, produced

ID = bytes(range(16))
OUT_OF_ORDER = ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def outcome(talk, records, *, topic="t", partition=0, version=9):
    """None if it was sent, else the error."""
    number = talk.client(PRODUCE, version, produced({topic: {partition: records}}))
    if talk.to_broker:
        talk.broker(PRODUCE, version, number)
        assert len(talk.to_client) == 1
        return None
    ((_, _, code, _),) = answered(version, talk.to_client[-1])
    return ErrorCode(code)


class TestSequences:
    @pytest.fixture
    def talk(self, converse):
        talk = converse()
        talk.settings["t"] = QuestionFailed("not now")
        assert outcome(talk, idempotent(5)) is ErrorCode.NOT_ENOUGH_REPLICAS
        talk.settings["t"] = DELETED
        return talk

    def test_what_follows_a_refused_batch_is_refused(self, talk):
        assert outcome(talk, idempotent(6)) is OUT_OF_ORDER
        assert outcome(talk, idempotent(7)) is OUT_OF_ORDER

    def test_until_it_is_retried_in_order(self, talk):
        assert outcome(talk, idempotent(6)) is OUT_OF_ORDER
        assert [outcome(talk, idempotent(sequence)) for sequence in (5, 6, 7)] == [None] * 3

    def test_a_new_epoch_begins_anew(self, talk):
        assert outcome(talk, idempotent(6)) is OUT_OF_ORDER
        assert outcome(talk, idempotent(0, epoch=1)) is None
        assert outcome(talk, idempotent(1, epoch=1)) is None

    def test_refused_again_it_still_holds_the_others(self, talk):
        talk.settings["t"] = QuestionFailed("not now")
        talk.shared.topic_settings.drop(["t"])
        assert outcome(talk, idempotent(5)) is ErrorCode.NOT_ENOUGH_REPLICAS
        talk.settings["t"] = DELETED
        talk.shared.topic_settings.drop(["t"])
        assert outcome(talk, idempotent(6)) is OUT_OF_ORDER

    def test_also_where_it_turned_out_to_be_too_large_once_sealed(self, converse):
        talk = converse()
        size = len(idempotent(5))
        talk.settings["t"] = TopicSettings(cleanup_policy=frozenset({"delete"}), max_message_bytes=size)
        assert outcome(talk, idempotent(5)) is ErrorCode.MESSAGE_TOO_LARGE
        assert outcome(talk, idempotent(6)) is OUT_OF_ORDER
        assert outcome(talk, idempotent(5)) is ErrorCode.MESSAGE_TOO_LARGE

    def test_other_partitions_and_producers_go_on(self, talk):
        assert outcome(talk, idempotent(6), partition=1) is None
        assert outcome(talk, idempotent(6), topic="u") is None
        assert outcome(talk, client_batch()) is None
        assert outcome(talk, idempotent(6)) is OUT_OF_ORDER

    def test_in_one_request_with_others(self, talk):
        talk.client(PRODUCE, 9, produced({"t": {0: idempotent(6), 1: idempotent(0)}}))
        assert list(sent(talk)) == [("t", 1)]

    def test_over_the_end_of_the_numbers(self, converse):
        talk = converse()
        talk.settings["t"] = QuestionFailed("not now")
        assert outcome(talk, idempotent(2**31 - 1)) is ErrorCode.NOT_ENOUGH_REPLICAS
        talk.settings["t"] = DELETED
        assert outcome(talk, idempotent(0)) is OUT_OF_ORDER
        assert outcome(talk, idempotent(2**31 - 1)) is None
        assert outcome(talk, idempotent(0)) is None

    def test_it_dies_with_the_connection(self, talk, converse):
        assert outcome(converse(shared=talk.shared), idempotent(6)) is None

    def test_a_damaged_batch_holds_those_behind_it(self, converse):
        talk = converse()
        damaged = idempotent(5)[:-1] + b"\x01"
        assert outcome(talk, damaged) is ErrorCode.CORRUPT_MESSAGE
        assert outcome(talk, idempotent(6)) is OUT_OF_ORDER
        assert [outcome(talk, idempotent(sequence)) for sequence in (5, 6)] == [None, None]

    def test_an_unknown_topic_id_holds_those_behind_it(self, converse):
        talk = converse(topics=BATCHES)
        talk.names[ID] = QuestionFailed("not now")
        assert outcome(talk, idempotent(5), topic=ID, version=13) is ErrorCode.UNKNOWN_TOPIC_ID
        talk.names[ID] = "t"
        assert outcome(talk, idempotent(6), topic=ID, version=13) is OUT_OF_ORDER
        assert [outcome(talk, idempotent(sequence), topic=ID, version=13) for sequence in (5, 6)] == [None, None]


class TestTopicIds:
    PLAIN = [{"match": "logs", "seal": "none"}, *BATCHES]  # noqa: RUF012

    def test_an_unknown_one_is_asked_for(self, converse):
        talk = converse(topics=BATCHES)
        talk.names[ID] = "orders"
        assert outcome(talk, client_batch(), topic=ID, version=13) is None
        assert talk.needed[0] == TopicNameNeed(ID)

    def test_and_refused_if_nobody_knows_it(self, converse):
        talk = converse(topics=BATCHES)
        assert outcome(talk, client_batch(), topic=ID, version=13) is ErrorCode.UNKNOWN_TOPIC_ID
        assert talk.needed == [TopicNameNeed(ID)]

    def test_leads_to_a_plain_rule_only_if_this_client_was_given_it(self, converse):
        talk = converse(topics=self.PLAIN)
        talk.names[ID] = "logs"  # the broker says so, asked by the proxy
        assert outcome(talk, client_batch(), topic=ID, version=13) is ErrorCode.UNKNOWN_TOPIC_ID
        metadata = {"topics": [{"name": "logs", "topic_id": ID, "partitions": []}]}
        other = converse(shared=talk.shared)
        other.broker(3, 12, other.client(3, 12, client_id="another"), metadata)
        assert outcome(talk, client_batch(), topic=ID, version=13) is ErrorCode.UNKNOWN_TOPIC_ID
        mine = converse(shared=talk.shared)
        mine.broker(3, 12, mine.client(3, 12), metadata)
        assert outcome(talk, client_batch(), topic=ID, version=13) is None

    def test_a_plain_topic_by_name_needs_no_more(self, converse):
        talk = converse(topics=self.PLAIN)
        batch = client_batch()
        talk.client(PRODUCE, 12, produced({"logs": {0: batch}, "orders": {0: batch}}))
        records = sent(talk)
        assert records["logs", 0] == batch
        assert records["orders", 0] != batch

    def test_internal_topics_are_plain_without_a_rule(self, converse):
        talk = converse()
        batch = client_batch()
        talk.client(PRODUCE, 9, produced({"__consumer_offsets": {0: batch}, "__consumer_offsetz": {0: batch}}))
        records = sent(talk)
        assert records["__consumer_offsets", 0] == batch
        assert records["__consumer_offsetz", 0] != batch
