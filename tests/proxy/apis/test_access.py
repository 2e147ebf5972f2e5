"""Rules that name principals, applied to Produce, Fetch and ShareFetch."""

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.errors import CloseConnection, ErrorCode
from kveil.proxy.keys.errors import KeyUnavailable
from tests.support.conversation import read_request, read_response
from tests.support.fetching import fetch
from tests.support.kio_instances import versions_of
from tests.support.producing import answered, error_of, sent
from tests.support.records import at_offset, client_batch, produced, sealed

PRODUCE, FETCH, SHARE_FETCH = ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.SHARE_FETCH
DENIED = ErrorCode.TOPIC_AUTHORIZATION_FAILED
ONE = client_batch(1)
RULES = [
    {"match": "t", "mode": "batch", "producers": ["alice"], "consumers": ["bob", "CN=bob,O=x"]},
    {"match": "plain", "seal": "none", "producers": ["alice"], "consumers": []},
    {"match": "*", "mode": "batch"},
]
IDS = {"t": bytes(range(16)), "other": bytes(range(1, 17))}


@pytest.fixture
def talk(converse, fresh_log_limits):
    talk = converse(topics=RULES)
    for name, topic_id in IDS.items():
        talk.shared.topic_names.learn(topic_id, name)
    return talk


def of_type(events, kind):
    return [event for event in events if event["type"] == f"io.kveil.{kind}"]


class TestProduce:
    def test_who_is_named_may(self, talk):
        talk.connection.principal = "alice"
        talk.client(PRODUCE, 9, produced({"t": {0: ONE}, "plain": {0: ONE}}))
        assert set(sent(talk)) == {("t", 0), ("plain", 0)}

    @pytest.mark.parametrize("principal", ["bob", "Alice", "", None])
    @pytest.mark.parametrize("topic", ["t", "plain"])
    def test_who_is_not_may_not(self, talk, audited, principal, topic):
        talk.connection.principal = principal
        code, text = error_of(talk, ONE, topic=topic)
        assert code is DENIED
        assert "not among the topic's producers" in text
        (event,) = of_type(audited, "access.refused")
        assert event["subject"] == topic
        assert event["data"] == {
            "principal": principal,
            "client_id": talk.connection.client_id,
            "address": "127.0.0.1",
            "operation": "Produce",
            "correlation_id": 101,
            "use": "produce",
            "rule": event["data"]["rule"],
        }
        assert event["data"]["rule"].startswith("topics[")
        (line,) = talk.log.of("access_refused")
        assert line["rule"].startswith("topics[")
        assert line["client"] == "127.0.0.1"

    def test_other_topics_of_the_request_go_on(self, talk):
        talk.connection.principal = "bob"
        number = talk.client(PRODUCE, 9, produced({"t": {0: ONE}, "other": {0: ONE}}))
        assert set(sent(talk)) == {("other", 0)}
        parts = [{"index": 0, "log_append_time": None}]
        talk.broker(PRODUCE, 9, number, {"responses": [{"name": "other", "partition_responses": parts}]})
        (frame,) = talk.to_client
        assert answered(9, frame) == [("t", 0, DENIED, -1), ("other", 0, 0, 0)]

    def test_repeats_are_told_once(self, talk, audited):
        for _ in range(5):
            error_of(talk, ONE)
        assert len(of_type(audited, "access.refused")) == len(talk.log.of("access_refused")) == 1


class TestFetch:
    @pytest.mark.parametrize("principal", ["bob", "CN=bob,O=x"])
    def test_who_is_named_may(self, talk, writer, principal):
        talk.connection.principal = principal
        assert fetch(talk, {"t": {0: sealed(writer, "t", 0, ONE)}}) == {("t", 0): (0, at_offset(ONE, 0))}

    @pytest.mark.parametrize("version", [v for v in versions_of(FETCH) if v >= 4])
    @pytest.mark.parametrize("principal", ["alice", None])
    def test_who_is_not_gets_no_record(self, talk, writer, version, principal):
        """Of a partition without records neither; those of other topics are delivered."""
        talk.connection.principal = principal
        names = IDS if version >= 13 else {name: name for name in IDS}
        given = {
            names["t"]: {0: sealed(writer, "t", 0, ONE), 1: b""},
            names["other"]: {0: sealed(writer, "other", 0, ONE), 1: b""},
        }
        assert fetch(talk, given, version=version) == {
            (names["t"], 0): (DENIED, b""),
            (names["t"], 1): (DENIED, b""),
            (names["other"], 0): (0, at_offset(ONE, 0)),
            (names["other"], 1): (0, b""),
        }

    def test_plain_topics_are_refused_too(self, talk):
        talk.connection.principal = "alice"
        assert fetch(talk, {"plain": {0: ONE}}) == {("plain", 0): (DENIED, b"")}

    def test_no_key_is_looked_for(self, talk, writer, monkeypatch):
        async def unwrap(*_):
            raise KeyUnavailable("asked for a key")

        monkeypatch.setattr(talk.shared.keys, "unwrap", unwrap)
        assert fetch(talk, {"t": {0: sealed(writer, "t", 0, ONE)}}) == {("t", 0): (DENIED, b"")}
        assert talk.needed == []


@pytest.mark.parametrize("version", versions_of(SHARE_FETCH))
class TestShareFetch:
    def ask(self, talk, version, *names):
        topics = [
            {"topic_id": IDS[name], "partitions": [{"partition_index": index} for index in (0, 2)]} for name in names
        ]
        return talk.client(SHARE_FETCH, version, {"topics": topics})

    def read(self, talk, version):
        (frame,) = talk.to_client
        return [
            (topic.topic_id.bytes, part.partition_index, int(part.error_code), part.records, len(part.acquired_records))
            for topic in read_response(SHARE_FETCH, version, frame).responses
            for part in topic.partitions
        ]

    def test_who_is_named_may(self, talk, version):
        talk.connection.principal = "bob"
        self.ask(talk, version, "t", "other")
        (frame,) = talk.to_broker
        assert [topic.topic_id.bytes for topic in read_request(frame)[1].topics] == [IDS["t"], IDS["other"]]

    def test_nothing_reaches_the_broker_if_all_is_refused(self, talk, version):
        self.ask(talk, version, "t")
        assert talk.to_broker == []
        assert self.read(talk, version) == [(IDS["t"], 0, DENIED, b"", 0), (IDS["t"], 2, DENIED, b"", 0)]

    def test_what_is_refused_is_cut_out_and_put_back_into_the_answer(self, talk, writer, version):
        number = self.ask(talk, version, "t", "other")
        (frame,) = talk.to_broker
        (asked,) = read_request(frame)[1].topics
        assert (asked.topic_id.bytes, [part.partition_index for part in asked.partitions]) == (IDS["other"], [0, 2])
        part = {
            "partition_index": 0,
            "records": sealed(writer, "other", 0, ONE, offset=10),
            "acquired_records": [{"first_offset": 10, "last_offset": 10, "delivery_count": 1}],
            "current_leader": {"leader_id": 1, "leader_epoch": 1},
        }
        responses = [{"topic_id": IDS["other"], "partitions": [part]}]
        talk.broker(SHARE_FETCH, version, number, {"responses": responses})
        assert self.read(talk, version) == [
            (IDS["other"], 0, 0, at_offset(ONE, 10), 1),
            (IDS["t"], 0, DENIED, b"", 0),
            (IDS["t"], 2, DENIED, b"", 0),
        ]

    def test_an_answer_without_topics_gets_them(self, talk, version):
        number = self.ask(talk, version, "t", "other")
        talk.broker(SHARE_FETCH, version, number, {"responses": []})
        assert [found[:3] for found in self.read(talk, version)] == [(IDS["t"], 0, DENIED), (IDS["t"], 2, DENIED)]

    def test_what_comes_all_the_same_is_refused(self, talk, writer, version):
        """The rule is newer than the session, whose end gives back what was acquired. The next one says why."""
        number = talk.client(SHARE_FETCH, version, {"topics": []})
        part = {
            "partition_index": 0,
            "records": sealed(writer, "t", 0, ONE),
            "acquired_records": [{"first_offset": 0, "last_offset": 0, "delivery_count": 1}],
            "current_leader": {"leader_id": 1, "leader_epoch": 1},
        }
        with pytest.raises(CloseConnection, match="may not be read any more"):
            talk.broker(SHARE_FETCH, version, number, {"responses": [{"topic_id": IDS["t"], "partitions": [part]}]})
        assert talk.to_client == []
