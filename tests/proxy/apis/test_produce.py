"""Produce: sealed, refused, merged."""

import pytest
from kio.schema.errors import ErrorCode as KafkaError

from kveil.protocol.envelope.batch import peek, unseal
from kveil.protocol.kafka.record_batch import read_header
from kveil.proxy.errors import CloseConnection, ErrorCode, QuestionFailed, Refused
from kveil.proxy.keys.errors import KeyUnavailable
from kveil.proxy.needs import SealingKeyNeed, TopicNameNeed, TopicSettingsNeed
from kveil.proxy.topics import TopicSettings
from tests.support.conversation import COMPACTED, read_request, read_response
from tests.support.records import client_batch, idempotent, produced

PRODUCE = 0
VERSIONS = range(3, 14)
BATCHES = [{"match": "*", "mode": "batch"}]
GOOD = client_batch()
BAD = GOOD[:-1] + bytes((GOOD[-1] ^ 1,))
IDS = {name: bytes((number + 1,)) * 16 for number, name in enumerate(("orders", "logs", "other"))}


def keyed(version, topics):
    """By name up to version 12, by id from 13 on."""
    return {IDS[name] if version >= 13 else name: partitions for name, partitions in topics.items()}


def conversation(converse, **config):
    talk = converse(**{"topics": BATCHES, **config})
    for name, topic_id in IDS.items():
        talk.shared.topic_names.learn(topic_id, name)
    return talk


def sent(talk):
    """What the broker got, by topic and partition."""
    (frame,) = talk.to_broker
    _, request = read_request(frame)
    return {
        (topic.name if hasattr(topic, "name") else topic.topic_id.bytes, part.index): part.records
        for topic in request.topic_data
        for part in topic.partition_data
    }


def answered(version, frame):
    """What the client got: every partition in its order, with error and base offset."""
    return [
        (topic.name if version < 13 else topic.topic_id.bytes, part.index, int(part.error_code), part.base_offset)
        for topic in read_response(PRODUCE, version, frame).responses
        for part in topic.partition_responses
    ]


def broker_answers(talk, version, number, topics, **more):
    responses = [
        {
            "name" if isinstance(topic, str) else "topic_id": topic,
            "partition_responses": [{"index": index, "log_append_time": None, **values} for index, values in parts.items()],
        }
        for topic, parts in topics.items()
    ]
    talk.broker(PRODUCE, version, number, {"responses": responses, **more})


def error_of(talk, records, *, topic="t", version=9, **values):
    """The error that one batch gets without being sent."""
    talk.client(PRODUCE, version, produced({topic: {0: records}}, **values))
    assert talk.to_broker == []
    (frame,) = talk.to_client
    (_, index, code, offset), *rest = answered(version, frame)
    assert (index, offset, rest) == (0, -1, [])
    part = read_response(PRODUCE, version, frame).responses[0].partition_responses[0]
    return ErrorCode(code), getattr(part, "error_message", None)


@pytest.mark.parametrize("version", VERSIONS)
class TestSealing:
    def test_every_batch_is_sealed(self, converse, version):
        talk = conversation(converse)
        topics = keyed(version, {"orders": {0: GOOD, 3: client_batch(40)}, "logs": {1: client_batch(1)}})
        number = talk.client(PRODUCE, version, produced(topics, transactional_id="tx", acks=1))
        (frame,) = talk.session.to_broker and [b"".join(map(bytes, talk.session.to_broker))[4:]]
        header, request = read_request(frame)
        assert (header.api_version, header.correlation_id) == (version, number)
        assert (request.acks, request.transactional_id, request.timeout.total_seconds()) == (1, "tx", 30)
        names = {**{name: name for name in IDS}, **{topic_id: name for name, topic_id in IDS.items()}}
        for (topic, partition), records in sent(talk).items():
            view = memoryview(records)
            envelope = peek(view, read_header(view))
            rule = talk.shared.policy.rule_for(names[topic])
            key = talk.shared.keys.opening_key(names[topic], envelope.kid, envelope.block, rule)
            assert b"".join(map(bytes, unseal(envelope, key=key, partition=partition))) == topics[topic][partition]
        assert b"value" not in frame

    def test_without_refusals_the_answer_passes_as_it_is(self, converse, version):
        talk = conversation(converse)
        topics = keyed(version, {"orders": {0: GOOD}})
        number = talk.client(PRODUCE, version, produced(topics))
        broker_answers(talk, version, number, {name: {0: {"base_offset": 17, "error_code": 0}} for name in topics})
        assert answered(version, talk.to_client[0]) == [(*next((n, 0) for n in topics), 0, 17)]

    def test_refused_partitions_are_cut_out_and_merged(self, converse, version):
        talk = conversation(converse)
        topics = keyed(version, {"orders": {2: BAD, 0: GOOD, 1: BAD}, "logs": {0: BAD}, "other": {5: GOOD, 4: GOOD}})
        orders, logs, other = topics
        number = talk.client(PRODUCE, version, produced(topics))
        assert list(sent(talk)) == [(orders, 0), (other, 5), (other, 4)]
        answers = {  # a broker may group as it likes
            other: {4: {"base_offset": 44, "error_code": 0}, 5: {"base_offset": 55, "error_code": 6}},
            orders: {0: {"base_offset": 11, "error_code": 0}},
        }
        broker_answers(talk, version, number, answers, throttle_time=70)
        (frame,) = talk.to_client
        assert answered(version, frame) == [
            (orders, 2, ErrorCode.CORRUPT_MESSAGE, -1),
            (orders, 0, 0, 11),
            (orders, 1, ErrorCode.CORRUPT_MESSAGE, -1),
            (logs, 0, ErrorCode.CORRUPT_MESSAGE, -1),
            (other, 5, 6, 55),
            (other, 4, 0, 44),
        ]
        assert read_response(PRODUCE, version, frame).throttle_time.total_seconds() == 0.07

    def test_all_refused_is_answered_without_sending(self, converse, version):
        talk = conversation(converse)
        topics = keyed(version, {"orders": {2: BAD, 0: BAD}, "logs": {0: BAD}})
        orders, logs = topics
        talk.client(PRODUCE, version, produced(topics))
        assert talk.to_broker == []
        corrupt = ErrorCode.CORRUPT_MESSAGE
        (frame,) = talk.to_client
        assert answered(version, frame) == [(orders, 2, corrupt, -1), (orders, 0, corrupt, -1), (logs, 0, corrupt, -1)]
        if version >= 8:
            part = read_response(PRODUCE, version, frame).responses[0].partition_responses[0]
            assert "checksum" in part.error_message

    def test_acks_0_with_a_refusal_sends_the_good_ones_and_closes(self, converse, version):
        talk = conversation(converse)
        topics = keyed(version, {"orders": {0: BAD, 1: GOOD}})
        talk.client(PRODUCE, version, produced(topics, acks=0))
        assert list(sent(talk)) == [(next(iter(topics)), 1)]
        assert "acks=0" in talk.session.close_reason
        assert talk.session.is_idle

    def test_acks_0_with_nothing_good_closes(self, converse, version):
        talk = conversation(converse)
        with pytest.raises(CloseConnection, match="acks=0 has no answer"):
            talk.client(PRODUCE, version, produced(keyed(version, {"orders": {0: BAD}}), acks=0))
        assert talk.to_broker == []

    def test_a_listener_for_consumers_takes_nothing(self, converse, version):
        talk = conversation(converse, direction="consume")
        (topic,) = topics = keyed(version, {"orders": {0: GOOD}})
        talk.client(PRODUCE, version, produced(topics))
        assert (talk.to_broker, talk.needed) == ([], [])
        assert answered(version, talk.to_client[0]) == [(topic, 0, ErrorCode.TOPIC_AUTHORIZATION_FAILED, -1)]


def test_unknown_fields_of_a_newer_client_stay(converse):
    from tests.support.kio_instances import Kind, decode_frame, make, write_frame_of

    talk = conversation(converse)
    newer = [(900, b"from a newer client")]
    schema = Kind(PRODUCE, 12, is_request=True).schema
    entity = make(schema, 0, acks=-1)
    topic = entity.topic_data[0]
    part = type(topic.partition_data[0])(index=4, records=GOOD)
    entity = make(schema, 0, acks=-1, topic_data=(type(topic)(name="orders", partition_data=(part,)),))
    talk.client_frame(write_frame_of(entity, newer))
    talk.meet()
    (frame,) = talk.to_broker
    assert frame.count(newer[0][1]) == 4  # header, request, topic, partition
    bare = frame.replace(b"\x01\x84\x07\x13" + newer[0][1], b"\0")
    assert decode_frame(schema, bare).topic_data[0].partition_data[0].index == 4


class TestClientsOwnFaults:
    @pytest.mark.parametrize(
        ("records", "code"),
        [
            (BAD, ErrorCode.CORRUPT_MESSAGE),
            (GOOD[:-1], ErrorCode.CORRUPT_MESSAGE),
            (b"garbage", ErrorCode.CORRUPT_MESSAGE),
            (b"", ErrorCode.INVALID_RECORD),
            (None, ErrorCode.INVALID_RECORD),
            (GOOD + GOOD, ErrorCode.INVALID_RECORD),
            (client_batch(magic=1), ErrorCode.INVALID_RECORD),
            (client_batch(attributes=0x20), ErrorCode.INVALID_RECORD),
            (client_batch(last_offset_delta=7), ErrorCode.INVALID_RECORD),
        ],
    )
    def test_are_told(self, converse, records, code):
        talk = converse(topics=BATCHES)
        assert error_of(talk, records)[0] is code

    def test_are_logged(self, converse, fresh_log_limits):
        talk = converse(topics=BATCHES)
        error_of(talk, BAD, topic="orders")
        (line,) = talk.log.of("produce_refused")
        assert (line["topic"], line["partition"], line["error"]) == ("orders", 0, "CORRUPT_MESSAGE")
        assert "checksum" in line["reason"]


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

    def test_are_not_asked_where_the_mode_is_pinned(self, converse):
        talk = converse(topics=BATCHES)
        talk.settings["t"] = COMPACTED
        talk.client(PRODUCE, 9, produced({"t": {0: GOOD}}))
        assert [type(need) for need in talk.needed] == [SealingKeyNeed]
        assert len(talk.to_broker) == 1

    def test_a_compacted_topic_is_refused(self, converse):
        talk = converse()
        talk.settings["t"] = COMPACTED
        code, text = error_of(talk, GOOD)
        assert code is ErrorCode.POLICY_VIOLATION
        assert "cleanup.policy=delete" in text
        assert "seal: none" in text

    def test_settings_that_may_not_be_read(self, converse):
        talk = converse()
        talk.settings["t"] = TopicSettings(unreadable="DESCRIBE_CONFIGS is denied to this client")
        code, text = error_of(talk, GOOD)
        assert code is ErrorCode.POLICY_VIOLATION
        assert "DESCRIBE_CONFIGS" in text
        assert "mode: batch" in text

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
        talk.settings["compacted"] = COMPACTED
        number = talk.client(PRODUCE, 9, produced({"compacted": {0: GOOD}, "t": {0: GOOD}}))
        assert list(sent(talk)) == [("t", 0)]
        broker_answers(talk, 9, number, {"t": {0: {"base_offset": 3}}})
        assert answered(9, talk.to_client[0]) == [("compacted", 0, ErrorCode.POLICY_VIOLATION, -1), ("t", 0, 0, 3)]

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

    def test_then_the_settings_are_read_again(self, converse):
        talk = converse()
        self.refuse(talk)
        talk.to_broker  # noqa: B018 - taken out
        talk.settings["t"] = COMPACTED
        assert error_of(talk, GOOD)[0] is ErrorCode.POLICY_VIOLATION

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
        talk.settings["t"], talk.throttle_ms = COMPACTED, 200
        talk.client(PRODUCE, 9, produced({"t": {0: GOOD}}))
        assert read_response(PRODUCE, 9, talk.to_client[0]).throttle_time.total_seconds() == 0.2
