"""Fetch: what is opened, for whom, and what is refused before it is asked for."""

import pytest
import structlog

from kveil.protocol.kafka import compression
from kveil.protocol.kafka.record_batch import read_header
from kveil.proxy.errors import CloseConnection, ErrorCode
from kveil.proxy.needs import TopicNameNeed
from tests.support.conversation import read_request, read_response
from tests.support.fetching import fetch
from tests.support.kio_instances import versions_of
from tests.support.records import at_offset, client_batch, fetched, sealed

FETCH = 1
VERSIONS = versions_of(FETCH)
ID, OTHER = bytes(range(16)), bytes(range(1, 17))
PLAIN = [{"match": "logs", "seal": "none"}]
CORRUPT = ErrorCode.CORRUPT_MESSAGE
ONE, TWO, THREE = (client_batch(count) for count in (1, 2, 3))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_client_gets_its_own_bytes(converse, writer, version):
    talk = converse()
    talk.shared.topic_names.learn(ID, "t")
    topic = ID if version >= 13 else "t"
    stored = {
        0: b"".join(sealed(writer, "t", 0, batch, offset=at) for at, batch in ((10, ONE), (11, TWO), (13, THREE))),
        7: sealed(writer, "t", 7, THREE, offset=0),
        9: None,
        11: b"",
    }
    found = fetch(talk, {topic: stored}, version=version)
    assert found == {
        (topic, 0): (0, at_offset(ONE, 10) + at_offset(TWO, 11) + at_offset(THREE, 13)),
        (topic, 7): (0, at_offset(THREE, 0)),
        (topic, 9): (0, None),
        (topic, 11): (0, b""),
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_zstd_of_the_proxys_own_is_undone(converse, writer, version):
    """Consumers before version 10 don't know the codec (KIP-110), whether around the envelope or inside."""
    talk = converse()
    talk.shared.topic_names.learn(ID, "t")
    topic = ID if version >= 13 else "t"
    batch = client_batch(40)
    stored = sealed(writer, "t", 0, batch, compress=True)
    assert read_header(stored).codec == compression.ZSTD
    assert len(stored) < len(sealed(writer, "t", 0, batch))
    assert fetch(talk, {topic: {0: stored}}, version=version) == {(topic, 0): (0, at_offset(batch, 0))}


class TestRequests:
    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("replica", [0, 5, -2])
    def test_brokers_do_not_come_through_here(self, converse, version, replica):
        values = {"replica_state": {"replica_id": replica}} if version >= 15 else {"replica_id": replica}
        with pytest.raises(CloseConnection, match=f"replica id {replica}"):
            converse().client(FETCH, version, values)

    @pytest.mark.parametrize("version", VERSIONS)
    def test_a_listener_for_producers_hands_out_nothing(self, converse, version):
        talk = converse(direction="produce")
        topic = ID if version >= 13 else "t"
        request = {
            "topics": [
                {"topic_id" if version >= 13 else "topic": topic, "partitions": [{"partition": 3}, {"partition": 1}]}
            ]
        }
        talk.client(FETCH, version, request)
        assert (talk.to_broker, talk.needed) == ([], [])
        answer = read_response(FETCH, version, talk.to_client[0])
        (found,) = answer.responses
        assert (found.topic_id.bytes if version >= 13 else found.topic) == topic
        errors = [(part.partition_index, int(part.error_code), part.records) for part in found.partitions]
        assert errors == [(index, ErrorCode.TOPIC_AUTHORIZATION_FAILED, b"") for index in (3, 1)]

    def test_unknown_ids_are_asked_for(self, converse):
        talk = converse()
        talk.names[ID] = "t"
        number = talk.park(
            FETCH, 17, {"topics": [{"topic_id": ID, "partitions": []}, {"topic_id": OTHER, "partitions": []}]}
        )
        assert talk.session.parked_request.needs == [TopicNameNeed(ID), TopicNameNeed(OTHER)]
        talk.meet()
        assert [read_request(frame)[0].correlation_id for frame in talk.to_broker] == [number]


class TestTopicIds:
    """R10: the map of ids comes from the broker."""

    def test_an_unknown_id(self, converse, writer):
        found = fetch(converse(), {ID: {0: sealed(writer, "t", 0, ONE)}}, version=17)
        assert found[ID, 0] == (ErrorCode.UNKNOWN_TOPIC_ID, b"")

    def test_the_id_of_another_topic(self, converse, writer):
        talk = converse()
        talk.shared.topic_names.learn(ID, "u")
        assert fetch(talk, {ID: {0: sealed(writer, "t", 0, ONE)}}, version=17)[ID, 0] == (CORRUPT, b"")

    def test_a_plain_topic_only_to_the_client_that_was_given_its_id(self, converse):
        talk = converse(topics=PLAIN)
        talk.shared.topic_names.learn(ID, "logs")
        assert fetch(talk, {ID: {0: ONE}}, version=17)[ID, 0] == (ErrorCode.UNKNOWN_TOPIC_ID, b"")
        talk.broker(3, 12, talk.client(3, 12), {"topics": [{"name": "logs", "topic_id": ID, "partitions": []}]})
        assert len(talk.to_client) == 1
        assert fetch(talk, {ID: {0: ONE}}, version=17)[ID, 0] == (0, ONE)

    def test_a_second_name_for_an_id_closes(self, converse):
        talk = converse()
        talk.broker(3, 12, talk.client(3, 12), {"topics": [{"name": "orders", "topic_id": ID, "partitions": []}]})
        number = talk.client(3, 12)
        with (
            structlog.testing.capture_logs() as lines,
            pytest.raises(CloseConnection, match="'orders' a second name, 'logs'"),
        ):
            talk.broker(3, 12, number, {"topics": [{"name": "logs", "topic_id": ID, "partitions": []}]})
        assert [line["cloudevent"]["subject"] for line in lines if line["event"] == "audit"] == ["logs"]
        assert talk.shared.topic_names.find(ID) == "orders"


def test_addresses_and_records_in_one_answer(converse, writer):
    talk = converse()
    talk.shared.topic_names.learn(ID, "t")
    number = talk.client(FETCH, 17, {"topics": []})
    endpoints = [{"node_id": 2, "host": "broker-2.example.net", "port": 9092, "rack": None}]
    values = fetched({ID: {0: sealed(writer, "t", 0, THREE), 1: ONE}}, node_endpoints=endpoints, throttle_time=40)
    talk.broker(FETCH, 17, number, values)
    answer = read_response(FETCH, 17, talk.to_client[0])
    assert [(e.node_id, e.host, e.port) for e in answer.node_endpoints] == [(2, "127.0.0.1", 5003)]
    assert [part.records for part in answer.responses[0].partitions] == [at_offset(THREE, 0), b""]
    assert [part.high_watermark for part in answer.responses[0].partitions] == [100, 100]
    assert answer.throttle_time.total_seconds() == 0.04


@pytest.mark.parametrize("version", [version for version in VERSIONS if version >= 13])
def test_throttling_of_own_questions_is_told(converse, version):
    talk = converse()
    talk.names[ID], talk.throttle_ms = "t", 200
    number = talk.client(FETCH, version, {"topics": [{"topic_id": ID, "partitions": []}]})
    talk.broker(FETCH, version, number, fetched({}, throttle_time=50))
    assert read_response(FETCH, version, talk.to_client[0]).throttle_time.total_seconds() == 0.25
