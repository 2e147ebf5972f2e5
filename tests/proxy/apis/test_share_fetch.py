"""ShareFetch: a partition is delivered whole or not at all."""

import pytest

from kveil.proxy.errors import CloseConnection, ErrorCode
from kveil.proxy.keys.errors import KeyUnavailable
from kveil.proxy.needs import TopicNameNeed
from tests.support.conversation import Conversation, read_response
from tests.support.kio_instances import versions_of
from tests.support.records import at_offset, client_batch, marker, sealed, tampered

SHARE_FETCH = 78
VERSIONS = versions_of(SHARE_FETCH)
ID = bytes(range(16))
ONE, TWO = client_batch(1), client_batch(2)
ACQUIRED = [{"first_offset": 10, "last_offset": 12, "delivery_count": 1}]


@pytest.fixture
def talk(converse):
    talk = converse()
    talk.shared.topic_names.learn(ID, "t")
    return talk


def share_fetch(talk, partitions, *, version=VERSIONS[-1], topic_id=ID):
    """(error, records, whether anything is acquired) of each partition."""
    number = talk.client(SHARE_FETCH, version)
    parts = [
        {
            "partition_index": index,
            "records": records,
            "acquired_records": ACQUIRED,
            "current_leader": {"leader_id": 1, "leader_epoch": 1},
        }
        for index, records in partitions.items()
    ]
    talk.broker(SHARE_FETCH, version, number, {"responses": [{"topic_id": topic_id, "partitions": parts}]})
    (topic,) = read_response(SHARE_FETCH, version, talk.to_client[0]).responses
    return {p.partition_index: (int(p.error_code), p.records, len(p.acquired_records)) for p in topic.partitions}


@pytest.mark.parametrize("version", VERSIONS)
class TestWholePartitions:
    def test_are_opened(self, talk, writer, version):
        records = sealed(writer, "t", 0, ONE, offset=10) + sealed(writer, "t", 0, TWO, offset=11) + marker(offset=13)
        found = share_fetch(talk, {0: records, 1: b""}, version=version)
        assert found == {0: (0, at_offset(ONE, 10) + at_offset(TWO, 11) + marker(offset=13), 1), 1: (0, b"", 1)}

    @pytest.mark.parametrize("bad", [0, 1])
    def test_or_err_whole_with_nothing_acquired(self, talk, writer, version, bad):
        batches = [sealed(writer, "t", 0, ONE, offset=10), sealed(writer, "t", 0, TWO, offset=11)]
        batches[bad] = tampered(batches[bad])
        good = sealed(writer, "t", 1, TWO, offset=10)
        found = share_fetch(talk, {0: b"".join(batches), 1: good}, version=version)
        assert found == {0: (ErrorCode.CORRUPT_MESSAGE, b"", 0), 1: (0, at_offset(TWO, 10), 1)}

    def test_plain_batches_are_refused(self, talk, version):
        assert share_fetch(talk, {0: at_offset(ONE, 10)}, version=version)[0] == (ErrorCode.CORRUPT_MESSAGE, b"", 0)


class TestForNow:
    """Where a later try may help, the end of the connection releases the records uncounted."""

    def test_no_key(self, talk, writer, monkeypatch):
        async def unwrap(*_):
            raise KeyUnavailable("the key service is down")

        records = sealed(talk.shared, "t", 0, ONE) + sealed(writer, "t", 0, ONE)
        monkeypatch.setattr(talk.shared.keys, "unwrap", unwrap)
        with pytest.raises(CloseConnection, match="key service is down"):
            share_fetch(talk, {0: records})
        assert talk.to_client == []

    def test_no_key_and_then_no_more_requests_until_it_is_there(self, talk, writer, monkeypatch):
        """Each lock that runs out at the broker would count as a delivery."""
        real, is_down = talk.shared.keys.unwrap, True

        async def unwrap(*need):
            if is_down:
                raise KeyUnavailable("the key service is down")
            return await real(*need)

        monkeypatch.setattr(talk.shared.keys, "unwrap", unwrap)
        records = sealed(writer, "t", 0, ONE, offset=10)
        with pytest.raises(CloseConnection):
            share_fetch(talk, {0: records})
        talk.to_broker  # noqa: B018 - taken out
        asked = {"topics": [{"topic_id": ID, "partitions": []}]}
        for _ in range(2):
            again = Conversation(None, shared=talk.shared)
            with pytest.raises(CloseConnection, match="key service is down"):
                again.client(SHARE_FETCH, VERSIONS[-1], asked)
            assert again.to_broker == []
        is_down = False
        again = Conversation(None, shared=talk.shared)
        again.client(SHARE_FETCH, VERSIONS[-1], asked)
        assert (len(again.to_broker), len(again.needed)) == (1, 1)
        last = Conversation(None, shared=talk.shared)
        assert share_fetch(last, {0: records})[0] == (0, at_offset(ONE, 10), 1)
        last.client(SHARE_FETCH, VERSIONS[-1], asked)
        assert last.needed == []

    def test_an_unknown_topic_id(self, talk, writer):
        with pytest.raises(CloseConnection, match="topic id"):
            share_fetch(talk, {0: sealed(writer, "t", 0, ONE)}, topic_id=bytes(range(1, 17)))


@pytest.mark.parametrize("version", VERSIONS)
class TestListenerForProducers:
    def test_hands_out_nothing(self, converse, version):
        talk = converse(direction="produce")
        partitions = [{"partition_index": 3}, {"partition_index": 1}]
        talk.client(SHARE_FETCH, version, {"topics": [{"topic_id": ID, "partitions": partitions}]})
        assert (talk.to_broker, talk.needed) == ([], [])
        answer = read_response(SHARE_FETCH, version, talk.to_client[0])
        (topic,) = answer.responses
        assert (int(answer.error_code), topic.topic_id.bytes) == (0, ID)
        for index, part in zip((3, 1), topic.partitions, strict=True):
            assert (part.partition_index, int(part.error_code)) == (index, ErrorCode.TOPIC_AUTHORIZATION_FAILED)
            assert (part.records, part.acquired_records) == (b"", ())
            assert "for producers" in part.error_message

    def test_has_no_sessions(self, converse, version):
        talk = converse(direction="produce")
        talk.client(SHARE_FETCH, version, {"topics": []})
        assert talk.to_broker == []
        answer = read_response(SHARE_FETCH, version, talk.to_client[0])
        assert int(answer.error_code) == ErrorCode.SHARE_SESSION_NOT_FOUND


def test_unknown_ids_are_asked_for(converse):
    talk = converse()
    talk.names[ID] = "t"
    talk.client(SHARE_FETCH, VERSIONS[-1], {"topics": [{"topic_id": ID, "partitions": []}]})
    assert talk.needed == [TopicNameNeed(ID)]
    assert len(talk.to_broker) == 1


def test_plain_topics_pass(converse):
    talk = converse(topics=[{"match": "logs", "seal": "none"}])
    talk.broker(3, 12, talk.client(3, 12), {"topics": [{"name": "logs", "topic_id": ID, "partitions": []}]})
    assert len(talk.to_client) == 1
    assert share_fetch(talk, {0: ONE})[0] == (0, ONE, 1)
