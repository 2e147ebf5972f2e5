"""Produce: what a topic's settings decide, and what a broker's refusal says of them."""

import pytest
from kio.schema.errors import ErrorCode as KafkaError

from kveil.proxy.config import Mode
from kveil.proxy.errors import ErrorCode, QuestionFailed, Refused
from kveil.proxy.keys.errors import KeyUnavailable
from kveil.proxy.needs import SealingKeyNeed, TopicSettingsNeed
from kveil.proxy.topics import TopicSettings
from tests.support.conversation import COMPACTED, DELETED, Clock, read_response
from tests.support.producing import BATCHES, PRODUCE, answered, broker_answers, error_of, sent
from tests.support.records import client_batch, mode_of, produced

GOOD = client_batch()


class ImpatientClock(Clock):
    """Each look takes time."""

    step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class TestSettings:
    def test_are_read_before_sealing(self, converse):
        talk = converse()
        talk.client(PRODUCE, 9, produced({"t": {0: GOOD}}))
        assert [type(need) for need in talk.needed] == [TopicSettingsNeed, SealingKeyNeed]
        talk.client(PRODUCE, 9, produced({"t": {0: GOOD}}))
        assert len(talk.needed) == 2
        assert len(talk.to_broker) == 2

    def test_are_read_again_after_their_time(self, converse):
        talk = converse()
        talk.client(PRODUCE, 9, produced({"t": {0: GOOD}}))
        talk.clock.now += talk.shared.settings.limits.topic_settings_seconds
        talk.client(PRODUCE, 9, produced({"t": {0: GOOD}}))
        assert [type(need) for need in talk.needed].count(TopicSettingsNeed) == 2

    def test_may_end_while_the_batch_is_being_sealed(self, converse):
        """They were good when the request was looked at, and a client without retries would lose the batch."""
        clock = ImpatientClock()
        talk = converse(clock=clock)
        clock.step = 0.6 * talk.shared.settings.limits.topic_settings_seconds
        talk.client(PRODUCE, 9, produced({"t": {0: GOOD}}))
        assert len(talk.to_broker) == 1
        assert talk.to_client == []

    @pytest.mark.parametrize("failure", [QuestionFailed("no answer"), Refused(ErrorCode.UNKNOWN_TOPIC_ID, "none")])
    def test_are_not_waited_for_in_vain_where_the_mode_is_pinned(self, converse, failure):
        talk = converse(topics=BATCHES)
        talk.settings["t"] = failure
        talk.client(PRODUCE, 9, produced({"t": {0: GOOD}}))
        assert mode_of(sent(talk)["t", 0]) is Mode.BATCH

    @pytest.mark.parametrize(
        "settings", [COMPACTED, TopicSettings(unreadable="DESCRIBE_CONFIGS is denied to this client")]
    )
    def test_compacted_topics_and_unreadable_settings_mean_record_mode(self, converse, settings):
        talk = converse()
        talk.settings["t"] = settings
        talk.client(PRODUCE, 9, produced({"t": {0: GOOD}}))
        assert mode_of(sent(talk)["t", 0]) is Mode.RECORD

    @pytest.mark.parametrize(("mode", "settings"), [("batch", COMPACTED), ("record", DELETED)])
    def test_do_not_change_a_pinned_mode(self, converse, mode, settings):
        talk = converse(topics=[{"match": "t", "mode": mode}])
        talk.settings["t"] = settings
        talk.client(PRODUCE, 9, produced({"t": {0: GOOD}}))
        assert mode_of(sent(talk)["t", 0]) == mode

    def test_settings_that_have_no_answer_now(self, converse):
        talk = converse()
        talk.settings["t"] = QuestionFailed("no answer")
        assert error_of(talk, GOOD)[0] is ErrorCode.NOT_ENOUGH_REPLICAS
        del talk.settings["t"]
        talk.client(PRODUCE, 9, produced({"t": {0: GOOD}}))
        assert len(talk.to_broker) == 1

    def test_a_topic_that_is_not_there(self, converse):
        talk = converse()
        talk.settings["t"] = Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "no such topic")
        assert error_of(talk, GOOD)[0] is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    def test_others_go_on(self, converse):
        talk = converse()
        talk.settings["away"] = Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "no such topic")
        number = talk.client(PRODUCE, 9, produced({"away": {0: GOOD}, "t": {0: GOOD}}))
        assert list(sent(talk)) == [("t", 0)]
        broker_answers(talk, 9, number, {"t": {0: {"base_offset": 3}}})
        assert answered(9, talk.to_client[0]) == [("away", 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1), ("t", 0, 0, 3)]

    def test_no_key_for_now(self, converse, monkeypatch):
        talk = converse(topics=BATCHES)

        async def renew(topic, rule):
            raise KeyUnavailable("the key service is down")

        monkeypatch.setattr(talk.shared.keys, "renew", renew)
        code, text = error_of(talk, GOOD)
        assert code is ErrorCode.NOT_ENOUGH_REPLICAS
        assert "key service" not in text


class TestBrokersRefusal:
    """A topic that became compacted takes no stubs: INVALID_RECORD."""

    def refuse(self, talk, code=ErrorCode.INVALID_RECORD, version=9):
        number = talk.client(PRODUCE, version, produced({"t": {0: GOOD, 1: GOOD}}))
        broker_answers(talk, version, number, {"t": {0: {"error_code": code}, 1: {"error_code": 0}}})
        return [code for _, _, code, _ in answered(version, talk.to_client[0])]

    @pytest.mark.parametrize("version", range(3, 13))
    def test_is_retriable_once(self, converse, version):
        talk = converse()
        assert self.refuse(talk, version=version) == [ErrorCode.NOT_ENOUGH_REPLICAS, 0]
        assert self.refuse(talk, version=version) == [ErrorCode.INVALID_RECORD, 0]
        assert [type(need) for need in talk.needed].count(TopicSettingsNeed) == 3 - 1

    def test_is_retriable_for_all_that_are_under_way(self, converse):
        """Sealed by the same settings, which only the first of the answers speaks against."""
        talk = converse()
        numbers = [talk.client(PRODUCE, 9, produced({"t": {0: GOOD}})) for _ in range(3)]
        for number in numbers:
            talk.clock.now += 1
            broker_answers(talk, 9, number, {"t": {0: {"error_code": ErrorCode.INVALID_RECORD}}})
        codes = [answered(9, frame)[0][2] for frame in talk.to_client]
        assert codes == [ErrorCode.NOT_ENOUGH_REPLICAS] * 3
        talk.to_broker  # noqa: B018 - taken out
        assert self.refuse(talk) == [ErrorCode.INVALID_RECORD, 0]

    def test_then_the_settings_are_read_again(self, converse):
        talk = converse()
        self.refuse(talk)
        talk.to_broker  # noqa: B018 - taken out
        talk.settings["t"] = COMPACTED
        talk.client(PRODUCE, 9, produced({"t": {0: GOOD}}))
        assert mode_of(sent(talk)["t", 0]) is Mode.RECORD

    def test_other_errors_pass(self, converse):
        assert self.refuse(converse(), code=KafkaError.not_leader_or_follower) == [6, 0]

    def test_pinned_and_plain_topics_keep_the_brokers_word(self, converse):
        for topics in (BATCHES, [{"match": "*", "seal": "none"}]):
            assert self.refuse(converse(topics=topics)) == [ErrorCode.INVALID_RECORD, 0]


class TestThrottling:
    @pytest.mark.parametrize("version", range(3, 13))
    def test_of_own_questions_is_told(self, converse, version):
        talk = converse()
        talk.throttle_ms = 200
        number = talk.client(PRODUCE, version, produced({"t": {0: GOOD}}))
        broker_answers(talk, version, number, {"t": {0: {"base_offset": 3}}}, throttle_time=50)
        told = read_response(PRODUCE, version, talk.to_client[0]).throttle_time.total_seconds()
        assert told == 0.05 + 0.2 * len(talk.needed)
        number = talk.client(PRODUCE, version, produced({"t": {0: GOOD}}))
        broker_answers(talk, version, number, {"t": {0: {"base_offset": 4}}}, throttle_time=50)
        assert read_response(PRODUCE, version, talk.to_client[0]).throttle_time.total_seconds() == 0.05

    def test_also_where_nothing_was_sent(self, converse):
        talk = converse()
        talk.settings["t"], talk.throttle_ms = QuestionFailed("no answer"), 200
        talk.client(PRODUCE, 9, produced({"t": {0: GOOD}}))
        assert read_response(PRODUCE, 9, talk.to_client[0]).throttle_time.total_seconds() == 0.2
