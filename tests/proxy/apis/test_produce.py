"""Produce: sealed, refused, merged."""

import pytest

from kveil.protocol.envelope.batch import peek, unseal
from kveil.protocol.kafka import compression
from kveil.protocol.kafka.record_batch import read_header
from kveil.proxy.errors import CloseConnection, ErrorCode
from tests.support.conversation import read_request, read_response
from tests.support.kio_instances import Kind, decode_frame, make, write_frame_of
from tests.support.producing import BATCHES, PRODUCE, answered, broker_answers, error_of, sent
from tests.support.records import client_batch, produced

VERSIONS = range(3, 14)
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

    @pytest.mark.parametrize("version", VERSIONS)
    def test_zstd_in_a_version_without_it(self, converse, version):
        """Brokers refuse it before version 7 (KIP-110), and can't see the codec of a sealed batch."""
        talk = conversation(converse)
        (topic,) = topics = keyed(version, {"orders": {0: client_batch(attributes=compression.ZSTD)}})
        talk.client(PRODUCE, version, produced(topics))
        if version >= 7:
            assert list(sent(talk)) == [(topic, 0)]
        else:
            assert talk.to_broker == []
            code = ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
            assert answered(version, talk.to_client[0]) == [(topic, 0, code, -1)]

    def test_are_logged(self, converse, fresh_log_limits):
        talk = converse(topics=BATCHES)
        error_of(talk, BAD, topic="orders")
        (line,) = talk.log.of("produce_refused")
        assert (line["topic"], line["partition"], line["error"]) == ("orders", 0, "CORRUPT_MESSAGE")
        assert "checksum" in line["reason"]

    def test_too_large_for_one_envelope(self, converse, monkeypatch):
        monkeypatch.setattr("kveil.protocol.envelope.batch.MAX_PLAINTEXT", 60)
        talk = converse(topics=BATCHES)
        assert error_of(talk, GOOD)[0] is ErrorCode.MESSAGE_TOO_LARGE
