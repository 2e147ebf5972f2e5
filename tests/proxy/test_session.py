"""The order of a connection, and what may be asked on it."""

import pytest

from kveil.protocol.kafka.api_table import API_TABLE, Action, ApiKey
from kveil.protocol.kafka.errors import FrameError
from kveil.protocol.kafka.messages import encode_request, encode_response
from kveil.proxy.addresses import Endpoint
from kveil.proxy.errors import CloseConnection, QuestionFailed
from tests.support.conversation import number_of, read_request, read_response
from tests.support.records import client_batch, fetched, produced, sealed

HEARTBEAT, METADATA, PRODUCE, FETCH = 12, ApiKey.METADATA, ApiKey.PRODUCE, ApiKey.FETCH
BEATS = (HEARTBEAT, 4)


def numbers(frames):
    return [number_of(frame) for frame in frames]


class TestOrder:
    def test_requests_and_answers_pass_in_their_order(self, converse):
        talk = converse()
        asked = [talk.client(*BEATS) for _ in range(5)]
        assert [read_request(frame)[0].correlation_id for frame in talk.to_broker] == asked
        for number in asked:
            talk.broker(*BEATS, number)
        assert numbers(talk.to_client) == asked
        assert talk.session.is_idle

    def test_an_answer_out_of_order_closes(self, converse):
        talk = converse()
        first, second = talk.client(*BEATS), talk.client(*BEATS)
        with pytest.raises(CloseConnection, match="out of order"):
            talk.broker(*BEATS, second)
        assert first != second
        assert talk.to_client == []

    @pytest.mark.parametrize("asked", [0, 1])
    def test_an_answer_to_nothing_closes(self, converse, asked):
        talk = converse()
        for _ in range(asked):
            talk.broker(*BEATS, talk.client(*BEATS))
        with pytest.raises(CloseConnection, match="answer to nothing"):
            talk.broker(*BEATS, 1)

    def test_a_client_may_use_a_number_again(self, converse):
        talk = converse()
        for api in (BEATS, (METADATA, 12), (22, 4)):
            talk.client(*api, number=7)
        talk.broker(*BEATS, 7, {"throttle_time": 1})
        talk.broker(METADATA, 12, 7, {"brokers": [{"node_id": 1, "host": "b", "port": 9, "rack": None}]})
        talk.broker(22, 4, 7)
        beat, metadata, _ = talk.to_client
        assert read_response(*BEATS, beat).throttle_time.total_seconds() == 0.001
        assert read_response(METADATA, 12, metadata).brokers[0].port == 5002

    def test_acks_0_has_no_answer(self, converse):
        talk = converse(topics=[{"match": "*", "mode": "batch"}])
        talk.client(PRODUCE, 9, produced({"t": {0: client_batch()}}, acks=0))
        after = talk.client(*BEATS)
        assert len(talk.to_broker) == 2
        talk.broker(*BEATS, after)
        assert numbers(talk.to_client) == [after]

    @pytest.mark.parametrize("frame", [b"", b"\0", b"\0\0\0\0\0\0\0\1\0", b"\0\3\0\1\0\0\0\1\0\5a"])
    def test_what_is_no_request_is_a_frame_error(self, converse, frame):
        with pytest.raises(FrameError):
            converse().client_frame(frame)

    def test_a_cut_answer_is_a_frame_error(self, converse):
        talk = converse()
        number = talk.client(METADATA, 12)
        whole = encode_response(
            METADATA, 12, number, {"brokers": [{"node_id": 1, "host": "b", "port": 9, "rack": None}]}
        )
        with pytest.raises(FrameError):
            talk.broker_frame(whole[:-3])
        assert talk.to_client == []

    def test_frames_outlive_the_buffers_that_they_came_in(self, converse):
        talk = converse()
        number = talk.client(*BEATS, client_id="outlives")
        assert b"outlives" in talk.to_broker[0]
        frame = encode_response(METADATA, 12, number, {"cluster_id": "outlives"})
        talk = converse()
        talk.client(METADATA, 12, number=number)
        talk.broker_frame(frame)
        assert b"outlives" in talk.to_client[0]


class TestOwnAnswers:
    def test_they_wait_for_their_turn(self, converse):
        talk = converse()
        first = talk.client(*BEATS)
        refused = talk.client(PRODUCE, 9, produced({"t": {0: b"garbage"}}))
        last = talk.client(*BEATS)
        also = talk.client(PRODUCE, 9, produced({"t": {0: b"garbage"}}))
        assert [frame[:2] for frame in talk.to_broker] == [b"\0\x0c"] * 2
        assert talk.to_client == []
        talk.broker(*BEATS, first)
        assert numbers(talk.to_client) == [first, refused]
        talk.broker(*BEATS, last)
        assert numbers(talk.to_client) == [last, also]

    def test_nothing_in_front_of_it_means_at_once(self, converse):
        talk = converse()
        number = talk.client(PRODUCE, 9, produced({"t": {0: b"garbage"}}))
        assert numbers(talk.to_client) == [number]
        assert talk.session.is_idle


class TestParking:
    def test_a_request_waits_for_its_needs(self, converse):
        talk = converse()
        number = talk.park(PRODUCE, 9, produced({"t": {0: client_batch()}}))
        assert talk.session.parked_request
        assert not talk.session.is_idle
        assert talk.to_broker == []
        talk.meet()
        assert [read_request(frame)[0].correlation_id for frame in talk.to_broker] == [number]

    def test_answers_pass_while_a_request_is_parked(self, converse):
        talk = converse()
        earlier = talk.client(*BEATS)
        talk.park(PRODUCE, 9, produced({"t": {0: client_batch()}}))
        talk.broker(*BEATS, earlier)
        assert numbers(talk.to_client) == [earlier]

    def test_a_parked_answer_holds_those_behind_it(self, converse):
        sealed = converse(topics=[{"match": "*", "mode": "batch"}])
        sealed.client(PRODUCE, 9, produced({"t": {0: client_batch()}}))
        stored = read_request(sealed.to_broker[0])[1].topic_data[0].partition_data[0].records
        talk = converse()  # another process, which doesn't know the key yet
        number = talk.client(FETCH, 12)
        refused = talk.client(PRODUCE, 9, produced({"t": {0: b"garbage"}}))
        responses = [{"topic": "t", "partitions": [{"partition_index": 0, "records": stored}]}]
        parked = talk.broker_frame(encode_response(FETCH, 12, number, {"responses": responses}))
        assert parked is talk.session.parked_response
        assert talk.to_client == []
        talk.meet()
        assert numbers(talk.to_client) == [number, refused]
        assert talk.session.is_idle

    def test_resuming_what_is_not_parked_does_nothing(self, converse):
        talk = converse()
        assert talk.session.resume_request() is None
        assert talk.session.resume_response() is None


class TestOwnQuestions:
    QUESTION = (ApiKey.DESCRIBE_CONFIGS, 4)

    def ask(self, talk):
        answers = []
        talk.session.ask(*self.QUESTION, {"resources": []}, lambda frame: answers.append(bytes(frame)))
        return answers

    def test_between_the_clients_requests(self, converse):
        talk = converse()
        before = talk.client(*BEATS, client_id="app-7")
        answers = self.ask(talk)
        after = talk.client(*BEATS)
        headers = [read_request(frame)[0] for frame in talk.to_broker]
        assert [header.api_key for header in headers] == [HEARTBEAT, ApiKey.DESCRIBE_CONFIGS, HEARTBEAT]
        assert headers[1].client_id == "app-7"
        talk.broker(*BEATS, before)
        talk.broker(*self.QUESTION, headers[1].correlation_id, {"throttle_time": 3})
        talk.broker(*BEATS, after)
        assert numbers(talk.to_client) == [before, after]
        assert [read_response(*self.QUESTION, frame).throttle_time.total_seconds() for frame in answers] == [0.003]

    def test_its_answer_has_its_place_in_the_queue(self, converse):
        talk = converse()
        talk.client(*BEATS)
        self.ask(talk)
        question = read_request(talk.to_broker[1])[0].correlation_id
        with pytest.raises(CloseConnection, match="out of order"):
            talk.broker(*self.QUESTION, question)

    def test_the_same_number_as_the_clients(self, converse):
        talk = converse()
        answers = self.ask(talk)
        question = read_request(talk.to_broker[0])[0].correlation_id
        talk.client(*BEATS, number=question)
        talk.broker(*self.QUESTION, question)
        assert (len(answers), talk.to_client) == (1, [])
        talk.broker(*BEATS, question)
        assert (len(answers), numbers(talk.to_client)) == (1, [question])

    def test_an_own_answer_behind_a_question_follows_it(self, converse):
        talk = converse()
        self.ask(talk)
        question = read_request(talk.to_broker[0])[0].correlation_id
        refused = talk.client(PRODUCE, 9, produced({"t": {0: b"garbage"}}))
        assert talk.to_client == []
        talk.broker(*self.QUESTION, question)
        assert numbers(talk.to_client) == [refused]

    def test_none_during_a_login(self, converse):
        talk = converse()
        talk.client(ApiKey.SASL_HANDSHAKE, 1, {"mechanism": "PLAIN"})
        with pytest.raises(QuestionFailed, match="login"):
            self.ask(talk)

    def test_it_passes_a_parked_answer(self, converse, writer):
        """The one that waits for it, or another: nothing of it goes to the client."""
        talk = converse()
        number = talk.client(FETCH, 12)
        answers = self.ask(talk)
        question = read_request(talk.to_broker[1])[0].correlation_id
        stored = sealed(writer, "t", 0, client_batch())
        talk.broker_frame(encode_response(FETCH, 12, number, fetched({"t": {0: stored}})))
        assert talk.session.parked_response
        assert talk.session.takes_responses
        assert talk.broker_frame(encode_response(*self.QUESTION, question, {})) is None
        assert (len(answers), talk.to_client) == (1, [])
        assert not talk.session.takes_responses
        talk.meet()
        assert numbers(talk.to_client) == [number]
        assert talk.session.takes_responses


class TestWhatMayBeAsked:
    @pytest.mark.parametrize("key", [93, 500, -1, 32767])
    def test_an_unknown_api_closes(self, converse, key):
        with pytest.raises(CloseConnection, match=f"unknown API {key}"):
            converse().client_frame(key.to_bytes(2, "big", signed=True) + bytes(8))

    @pytest.mark.parametrize(
        "row", [row for row in API_TABLE.values() if row.action is Action.REFUSE], ids=lambda r: r.name
    )
    def test_a_refused_api_closes(self, converse, row):
        with pytest.raises(CloseConnection, match=row.name):
            converse().client_frame(row.key.to_bytes(2, "big") + bytes(8))

    @pytest.mark.parametrize("row", [row for row in API_TABLE.values() if row.action is not Action.REFUSE
                                     and row.key != ApiKey.API_VERSIONS], ids=lambda r: r.name)  # fmt: skip
    def test_an_unsupported_version_closes(self, converse, row):
        for version in {row.min_version - 1, row.max_version + 1, 32767, -1}:
            frame = row.key.to_bytes(2, "big") + version.to_bytes(2, "big", signed=True) + bytes(6)
            with pytest.raises(CloseConnection, match=f"{row.name} version {version}"):
                converse().client_frame(frame)


GUEST_APIS = [
    ApiKey.API_VERSIONS,
    ApiKey.METADATA,
    ApiKey.FIND_COORDINATOR,
    ApiKey.SASL_HANDSHAKE,
    ApiKey.SASL_AUTHENTICATE,
]


class TestGuests:
    """The port's broker isn't known yet, and another one answers."""

    REACHED = Endpoint("bootstrap", 9092)

    def guest(self, converse):
        return converse(node_id=3, is_guest=True, upstream=self.REACHED)

    def metadata(self, talk, *brokers):
        number = talk.client(METADATA, 12)
        values = {
            "brokers": [{"node_id": node, "host": host, "port": port, "rack": None} for node, host, port in brokers]
        }
        talk.broker(METADATA, 12, number, values)

    @pytest.mark.parametrize("key", GUEST_APIS)
    def test_may_log_in_and_look_around(self, converse, key):
        talk = self.guest(converse)
        talk.client(key, API_TABLE[key].max_version, {"mechanism": "PLAIN"})
        assert len(talk.to_broker) == 1

    @pytest.mark.parametrize("row", [row for row in API_TABLE.values() if row.action is not Action.REFUSE
                                     and row.key not in (3, 10, 17, 18, 36)], ids=lambda r: r.name)  # fmt: skip
    def test_may_do_nothing_else(self, converse, row):
        frame = row.key.to_bytes(2, "big") + row.max_version.to_bytes(2, "big") + bytes(8)
        with pytest.raises(CloseConnection, match="node 3, which is not known yet"):
            self.guest(converse).client_frame(frame)

    def test_closes_when_it_turns_out_to_be_another_broker(self, converse):
        talk = self.guest(converse)
        with pytest.raises(CloseConnection, match="node 3 is another broker"):
            self.metadata(talk, (0, "bootstrap", 9092), (3, "other", 9092))
        (answer,) = talk.to_client
        assert [broker.node_id for broker in read_response(METADATA, 12, answer).brokers] == [0, 3]
        assert talk.shared.brokers.find(3) == Endpoint("other", 9092)

    def test_stays_when_it_is_the_one(self, converse):
        talk = self.guest(converse)
        self.metadata(talk, (3, "bootstrap", 9092))
        talk.client(*BEATS)
        assert len(talk.to_broker) == 2

    def test_stays_a_guest_while_nobody_names_its_node(self, converse):
        talk = self.guest(converse)
        self.metadata(talk, (0, "bootstrap", 9092))
        with pytest.raises(CloseConnection, match="not known yet"):
            talk.client_frame(encode_request(*BEATS, 1, "app", {}))
