"""What the client is offered: the intersection of both sides."""

import pytest

from kveil.protocol.kafka.api_table import API_TABLE, Action, ApiKey
from kveil.protocol.kafka.errors import FrameError
from tests.support.conversation import number_of, read_response
from tests.support.kio_instances import Kind, make, write_frame_of

VERSIONS = range(5)
EVERYTHING = dict.fromkeys(range(120), (0, 100))


def offered(talk, version, rows):
    """What the client is offered by a broker with these rows."""
    number = talk.client(ApiKey.API_VERSIONS, version)
    keys = [{"api_key": key, "min_version": low, "max_version": high} for key, (low, high) in rows.items()]
    talk.broker(ApiKey.API_VERSIONS, version, number, {"api_keys": keys})
    (frame,) = talk.to_client
    answer = read_response(ApiKey.API_VERSIONS, version, frame)
    assert len({row.api_key for row in answer.api_keys}) == len(answer.api_keys)
    return {row.api_key: (row.min_version, row.max_version) for row in answer.api_keys}


@pytest.mark.parametrize("version", VERSIONS)
class TestIntersection:
    def test_of_a_broker_that_can_everything(self, converse, version):
        found = offered(converse(), version, EVERYTHING)
        expected = {
            key: (row.min_version, row.max_version) for key, row in API_TABLE.items() if row.action is not Action.REFUSE
        }
        expected[ApiKey.PRODUCE] = (0, 13)
        expected[ApiKey.SASL_HANDSHAKE] = (1, 1)
        assert found == expected
        assert found[ApiKey.FETCH][0] == 4

    def test_of_an_older_broker(self, converse, version):
        rows = {0: (3, 7), 1: (0, 11), 3: (2, 5), 18: (0, 2), 12: (50, 60)}
        assert offered(converse(), version, rows) == {0: (3, 7), 1: (4, 11), 3: (2, 5), 18: (0, 2)}

    def test_of_a_broker_that_can_nothing(self, converse, version):
        assert offered(converse(), version, {}) == {}
        assert offered(converse(), version, {4: (0, 7), 500: (0, 1)}) == {}

    def test_no_topic_ids_for_producers_where_topics_are_plain(self, converse, version):
        plain = {"topics": [{"match": "logs", "seal": "none"}]}
        assert offered(converse(**plain), version, EVERYTHING)[ApiKey.PRODUCE] == (0, 12)
        assert offered(converse(presets=["connect"]), version, EVERYTHING)[ApiKey.PRODUCE] == (0, 12)
        assert offered(converse(**plain), version, {0: (3, 9)})[ApiKey.PRODUCE] == (3, 9)
        assert offered(converse(**plain), version, {0: (13, 13)}) == {}

    def test_what_the_broker_offers_is_remembered_for_own_questions(self, converse, version):
        talk = converse()
        offered(talk, version, {3: (0, 50), 32: (1, 4)})
        assert talk.connection.versions == {3: (0, 50), 32: (1, 4)}

    def test_the_rest_of_the_answer_stays(self, converse, version):
        talk = converse()
        talk.client(ApiKey.API_VERSIONS, version, number=7)
        schema = Kind(18, version, is_request=False).schema
        entity = make(schema, 0, error_code=type(make(schema, 0).error_code)(0))
        frame = write_frame_of(entity)
        talk.broker_frame(frame)
        found = read_response(18, version, talk.to_client[0])
        assert found == make(schema, 0, error_code=entity.error_code, api_keys=found.api_keys)


class TestUnknownVersions:
    @pytest.mark.parametrize("version", [5, 6, 100, 32767, -1])
    def test_are_answered_by_a_v0_body(self, converse, version):
        talk = converse()
        talk.client_frame(b"\0\x12" + version.to_bytes(2, "big", signed=True) + b"\0\0\0\x09\0\3app\0whatever comes")
        assert talk.to_broker == []
        (frame,) = talk.to_client
        answer = read_response(18, 0, frame)
        assert (number_of(frame), int(answer.error_code)) == (9, 35)
        (row,) = answer.api_keys
        assert (row.api_key, row.min_version, row.max_version) == (18, 0, 4)

    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("body", [b"\0\x23\0\0\0\1\0\x12\0\0\0\3", b"\0\x23\0\0\0\0"])
    def test_a_brokers_own_refusal_passes_as_it_is(self, converse, version, body):
        talk = converse()
        talk.client(ApiKey.API_VERSIONS, version, number=7)
        talk.broker_frame(b"\0\0\0\7" + body)
        assert talk.to_client == [b"\0\0\0\7" + body]
        assert talk.connection.versions is None

    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("body", [b"\0\x23", b"\0\x23\xff\xff\xff\xffodd", b"\0\x23\0\0\0\0\0\x12\0\0\0\3"])
    def test_a_refusal_of_another_shape_is_put_right(self, converse, version, body):
        talk = converse()
        talk.client(ApiKey.API_VERSIONS, version, number=7)
        talk.broker_frame(b"\0\0\0\7" + body)
        (frame,) = talk.to_client
        answer = read_response(18, 0, frame)
        assert (number_of(frame), int(answer.error_code)) == (7, 35)
        assert [(row.api_key, row.min_version, row.max_version) for row in answer.api_keys] == [(18, 0, 0)]

    @pytest.mark.parametrize("body", [b"", b"\0", b"\0\0", b"\0\0\0\0\0\1\0\0"])
    def test_a_cut_answer_is_a_frame_error(self, converse, body):
        talk = converse()
        talk.client(ApiKey.API_VERSIONS, 0, number=7)
        with pytest.raises(FrameError):
            talk.broker_frame(b"\0\0\0\7" + body)
