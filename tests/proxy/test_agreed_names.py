"""Workers' topic names: what one was told holds for all, and a broker gains nothing by telling two different things."""

import json
from dataclasses import replace

import pytest
import structlog

from kveil.protocol.kafka.messages import encode_response
from kveil.proxy import topics as topics_module
from kveil.proxy.agreed_names import NAME_LENGTH, AgreedNames
from kveil.proxy.errors import CloseConnection, ErrorCode
from kveil.proxy.needs import AgreementNeed, GiftNeed, TopicNameNeed
from kveil.proxy.workers import shared_state
from kveil.proxy.workers.shared_state import SharedNames, SharedState
from tests.support.conversation import read_response
from tests.support.fetching import fetch
from tests.support.producing import PRODUCE, answered, sent
from tests.support.records import client_batch, produced

ID, OTHER = bytes(range(16)), bytes(range(1, 17))
PLAIN = [{"match": "logs", "seal": "none"}]
METADATA = 3
SHARE_FETCH = 78
VERSION = 12
UNKNOWN = ErrorCode.UNKNOWN_TOPIC_ID


class Workers:
    """Workers of one parent, whose messages are JSON as on the channel."""

    def __init__(self, converse):
        self._converse = converse
        self.state = SharedState()
        self.asked = []

    def worker(self):
        """A conversation at a new worker."""
        talk = self._converse(topics=PLAIN)
        return self.at(replace(talk.shared, topic_names=AgreedNames(SharedNames(self.ask))))

    def at(self, shared):
        """Another conversation at the same worker."""
        return self._converse(shared=shared)

    async def ask(self, kind, **values):
        self.asked.append(kind)
        return json.loads(json.dumps(self.state.answer(kind, json.loads(json.dumps(values)))))


@pytest.fixture
def workers(converse):
    return Workers(converse)


def metadata(*names):
    return {"topics": [{"name": name, "topic_id": topic_id, "partitions": []} for name, topic_id in names]}


def tell(talk, *names, client_id="app"):
    """The broker's Metadata names these topics to a client."""
    number = talk.client(METADATA, VERSION, client_id=client_id)
    talk.to_broker  # noqa: B018 - taken out
    talk.broker(METADATA, VERSION, number, metadata(*names))
    assert len(talk.to_client) == 1


def produce(talk, topic_id=ID):
    """What the broker gets of a batch, or the error that the client gets."""
    batch = client_batch()
    talk.client(PRODUCE, 13, produced({topic_id: {0: batch}}))
    if answers := talk.to_client:
        ((_, _, code, _),) = answered(13, answers[0])
        return ErrorCode(code)
    return "plain" if sent(talk)[topic_id, 0] == batch else "sealed"


def share_fetch(talk, records):
    """Error and records that a member of a share group gets."""
    number = talk.client(SHARE_FETCH, 1, {"topics": []})
    partition = {
        "partition_index": 0,
        "records": records,
        "acquired_records": [{"first_offset": 0, "last_offset": 2, "delivery_count": 1}],
        "current_leader": {"leader_id": 1, "leader_epoch": 1},
    }
    talk.broker(SHARE_FETCH, 1, number, {"responses": [{"topic_id": ID, "partitions": [partition]}]})
    ((part,),) = (topic.partitions for topic in read_response(SHARE_FETCH, 1, talk.to_client[0]).responses)
    return int(part.error_code), bytes(part.records or b"")


def is_refused(talk, *names):
    """Whether the connection ends on these names."""
    with structlog.testing.capture_logs(), pytest.raises(CloseConnection, match="a second name"):
        tell(talk, *names)
    return talk.to_client == []


class TestWhatOneWasTold:
    def test_a_plain_topic_of_another_worker(self, workers):
        tell(workers.worker(), ("logs", ID))
        assert produce(workers.worker()) == "plain"

    def test_only_for_that_client(self, workers):
        tell(workers.worker(), ("logs", ID), client_id="another")
        talk = workers.worker()
        assert produce(talk) is UNKNOWN
        assert talk.needed == [TopicNameNeed(ID), GiftNeed(("127.0.0.1", "app"), ID)]

    def test_a_sealed_topic_asks_for_the_name_alone(self, workers):
        tell(workers.worker(), ("orders", ID))
        talk = workers.worker()
        assert produce(talk) == "sealed"
        assert workers.asked == ["agree", "give", "names"]

    def test_a_second_batch_asks_nobody(self, workers):
        tell(workers.worker(), ("logs", ID))
        talk = workers.worker()
        produce(talk)
        before = len(workers.asked)
        assert produce(talk) == "plain"
        assert len(workers.asked) == before

    def test_which_of_two_topics_of_a_name_there_is_now(self, workers):
        """As Metadata has it. That an id is known of old says nothing."""
        first, other = workers.worker(), workers.worker()
        for topic_id in (ID, OTHER):
            tell(first, ("orders", topic_id))
            assert produce(workers.at(other.shared), topic_id) == "sealed"
            assert other.shared.topic_names.id_of("orders") == (None if topic_id == ID else ID)
            tell(other, ("orders", topic_id))
        assert [one.shared.topic_names.id_of("orders") for one in (first, other)] == [OTHER, OTHER]

    def test_fetching(self, workers):
        tell(workers.worker(), ("logs", ID))
        batch = client_batch()
        assert fetch(workers.worker(), {ID: {0: batch}}, version=17)[ID, 0] == (0, batch)

    def test_fetching_what_another_client_was_told(self, workers):
        tell(workers.worker(), ("logs", ID), client_id="another")
        assert fetch(workers.worker(), {ID: {0: client_batch()}}, version=17)[ID, 0] == (UNKNOWN, b"")

    def test_share_groups(self, workers):
        tell(workers.worker(), ("logs", ID))
        tell(workers.worker(), ("logs", ID), client_id="another")
        batch = client_batch()
        assert share_fetch(workers.worker(), batch) == (0, batch)

    def test_share_groups_of_another_client(self, workers):
        tell(workers.worker(), ("logs", ID), client_id="another")
        with pytest.raises(CloseConnection, match="was not told this topic id"):
            share_fetch(workers.worker(), client_batch())

    def test_an_id_that_nobody_was_told_is_asked_of_the_broker(self, workers):
        talk, later = workers.worker(), workers.worker()
        talk.names[ID] = "orders"
        assert produce(talk) == "sealed"
        assert produce(later) == "sealed"  # its broker says nothing


class TestTwoNames:
    """A client thinks that an id is of a sealed topic; the broker would have it lead to a plain one."""

    def test_told_to_two_workers(self, workers):
        first, second = workers.worker(), workers.worker()
        tell(first, ("orders", ID))
        assert is_refused(second, ("logs", ID))
        for shared in (first.shared, second.shared):
            assert produce(workers.at(shared)) == "sealed"

    def test_the_plain_one_first(self, workers):
        tell(workers.worker(), ("logs", ID))
        second = workers.worker()
        assert is_refused(second, ("orders", ID))

    def test_both_at_once(self, workers):
        """Neither worker knew the id when its answer came; the parent hears one before the other."""
        talks = [workers.worker(), workers.worker()]
        for talk, name in zip(talks, ("orders", "logs"), strict=True):
            number = talk.park(METADATA, VERSION)
            assert talk.broker_frame(encode_response(METADATA, VERSION, number, metadata((name, ID)))) is not None
            assert talk.to_client == []
        talks[0].meet()
        assert len(talks[0].to_client) == 1
        with structlog.testing.capture_logs(), pytest.raises(CloseConnection, match="a second name"):
            talks[1].meet()
        assert talks[1].to_client == []

    def test_to_a_question_of_the_proxys_own(self, workers):
        tell(workers.worker(), ("orders", ID))
        talk = workers.worker()
        talk.names[ID] = "logs"
        assert produce(talk) == "sealed"

    def test_in_one_answer(self, workers):
        talk = workers.worker()
        assert is_refused(talk, ("logs", ID), ("orders", ID))

    def test_an_answer_that_was_refused_gave_the_client_nothing(self, workers):
        tell(workers.worker(), ("orders", OTHER))
        assert is_refused(workers.worker(), ("logs", ID), ("logs", OTHER))
        assert produce(workers.worker()) is UNKNOWN


class TestAsking:
    def test_one_process_has_nobody_to_ask(self, converse):
        talk = converse(topics=PLAIN)
        tell(talk, ("logs", ID))
        assert produce(talk) == "plain"
        assert talk.needed == []

    def test_what_is_agreed_is_not_asked_again(self, workers):
        talk = workers.worker()
        tell(talk, ("logs", ID))
        assert isinstance(talk.needed[0], AgreementNeed)
        before = len(workers.asked)
        tell(talk, ("logs", ID))
        assert len(workers.asked) == before

    def test_only_what_is_new(self, workers):
        talk = workers.worker()
        tell(talk, ("logs", ID))
        talk.needed.clear()
        tell(talk, ("logs", ID), ("orders", OTHER))
        assert talk.needed[0].names == [("orders", OTHER)]

    def test_in_portions(self, workers, monkeypatch):
        monkeypatch.setattr(shared_state, "NAMES_AT_ONCE", 2)
        names = [(f"t{number}", bytes([number]) * 16) for number in range(1, 6)]
        tell(workers.worker(), *names)
        assert workers.asked == ["agree"] * 3 + ["give"] * 3
        assert produce(workers.worker(), names[4][1]) == "sealed"

    def test_a_parent_that_is_full(self, workers, monkeypatch):
        """Further ids stay unknown to all, and their topics are still told."""
        monkeypatch.setattr(topics_module, "MAX_NAMES", 1)
        talk = workers.worker()
        tell(talk, ("orders", OTHER), ("logs", ID))
        assert talk.shared.topic_names.find(ID) is None
        assert produce(talk) is UNKNOWN

    def test_a_name_that_no_topic_has(self, workers):
        talk = workers.worker()
        tell(talk, ("x" * (NAME_LENGTH + 1), ID))
        assert (workers.asked, talk.needed) == ([], [])
        assert talk.shared.topic_names.find(ID) is None
