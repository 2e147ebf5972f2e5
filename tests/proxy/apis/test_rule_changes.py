"""Rules that change while a client is connected: what is under way goes on by the new ones."""

import pytest

from kveil.protocol.envelope.batch import peek
from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.messages import encode_response
from kveil.protocol.kafka.record_batch import read_header
from kveil.proxy import session
from kveil.proxy.apis import fetch as fetch_module
from kveil.proxy.config import Settings
from kveil.proxy.errors import CloseConnection, ErrorCode
from kveil.proxy.policy import Policy
from tests.support.conversation import read_response
from tests.support.fetching import fetch
from tests.support.key_rings import make_ring
from tests.support.producing import PRODUCE, sent
from tests.support.records import at_offset, client_batch, fetched, produced, sealed

DENIED = ErrorCode.TOPIC_AUTHORIZATION_FAILED
ONE = client_batch(1)
TOPIC_ID = bytes(range(16))
SEALED = {"match": "t", "mode": "batch"}
PLAIN = {"match": "t", "seal": "none"}


def change(talk, *rules):
    """Put other rules in force, as a reload does."""
    settings = talk.shared.settings
    settings = Settings.model_validate({"upstream": settings.upstream, "keys": settings.keys, "topics": rules})
    talk.shared.settings, talk.shared.policy = settings, Policy(settings)


def is_sealed(records) -> bool:
    view = memoryview(records)
    return records != ONE and peek(view, read_header(view)) is not None


def test_a_topic_is_sealed_from_the_next_batch_on(converse):
    talk = converse(topics=[PLAIN])
    talk.client(PRODUCE, 9, produced({"t": {0: ONE}}))
    assert sent(talk)["t", 0] == ONE
    change(talk, SEALED)
    talk.client(PRODUCE, 9, produced({"t": {0: ONE}}))
    assert is_sealed(sent(talk)["t", 0])


def test_a_batch_that_waits_for_a_key_goes_by_the_later_rules(converse):
    """Here plain; what is worse doesn't happen either: one that was let through has left."""
    talk = converse(topics=[SEALED])
    talk.park(PRODUCE, 9, produced({"t": {0: ONE}}))
    change(talk, PLAIN)
    talk.meet()
    assert sent(talk)["t", 0] == ONE


def test_a_batch_that_waits_is_refused_by_the_later_rules(converse):
    talk = converse(topics=[SEALED])
    talk.park(PRODUCE, 9, produced({"t": {0: ONE}}))
    change(talk, {**SEALED, "producers": ["alice"]})
    talk.meet()
    assert talk.to_broker == []
    assert len(talk.to_client) == 1


def test_who_is_named_no_longer_gets_no_record_of_an_old_session(converse, writer, fresh_log_limits):
    """Also of the answer to a request that was sent before."""
    talk = converse(topics=[SEALED])
    records = sealed(writer, "t", 0, ONE, offset=10)
    assert fetch(talk, {"t": {0: records}}) == {("t", 0): (0, at_offset(ONE, 10))}
    change(talk, {**SEALED, "consumers": ["alice"]})
    assert fetch(talk, {"t": {0: records}}) == {("t", 0): (DENIED, b"")}


def test_plain_records_are_refused_once_the_topic_is_sealed(converse, fresh_log_limits):
    talk = converse(topics=[PLAIN])
    assert fetch(talk, {"t": {0: ONE}}) == {("t", 0): (0, ONE)}
    change(talk, SEALED)
    assert fetch(talk, {"t": {0: ONE}}) == {("t", 0): (ErrorCode.CORRUPT_MESSAGE, b"")}


def test_a_large_answer_is_opened_by_the_keys_that_its_opening_began_with(converse, monkeypatch):
    """Between two steps others have their turn, a reload too. Another ring hasn't unwrapped what hides keys yet."""
    monkeypatch.setattr(session, "STEP_BYTES", 1)
    monkeypatch.setattr(fetch_module, "STEP_BYTES", 1)
    rules = [{"match": "t", "mode": "record"}]
    other = converse(topics=rules)
    other.client(PRODUCE, 9, produced({"t": {0: ONE}}))
    records = at_offset(sent(other)["t", 0], 10)
    talk = converse(topics=rules)
    number = talk.client(ApiKey.FETCH, 12, {"topics": []})
    frame = encode_response(ApiKey.FETCH, 12, number, fetched({"t": {0: records}}))
    parked = talk.session.receive_response(memoryview(frame))
    talk._meet(parked)
    talk.session.resume_response()
    assert talk.session.has_begun
    provider = talk.shared.keys.providers[1]
    talk.shared.keys = make_ring(provider, clock=talk.clock, realm=talk.shared.keys.realm)
    talk.meet()
    (part,) = read_response(ApiKey.FETCH, 12, talk.to_client[0]).responses[0].partitions
    assert (int(part.error_code), b"value 0" in part.records) == (0, True)


class TestProduceById:
    """By id, a broker could call a sealed topic by a plain one's name (R10): so producers go by name then."""

    @pytest.fixture
    def talk(self, converse):
        """A client that knows the topic's id, and was offered to produce by it."""
        talk = converse(topics=[SEALED])
        number = talk.client(ApiKey.API_VERSIONS, 0)
        rows = [{"api_key": key, "min_version": 3, "max_version": 13} for key in (PRODUCE, ApiKey.METADATA)]
        talk.broker(ApiKey.API_VERSIONS, 0, number, {"api_keys": rows})
        assert talk.to_client
        talk.to_broker  # noqa: B018 - taken out
        talk.shared.topic_names.learn(TOPIC_ID, "t")
        talk.shared.topic_names.give(talk.connection.client, TOPIC_ID)
        return talk

    def test_the_connection_ends_for_a_new_offer(self, talk):
        talk.client(PRODUCE, 13, produced({TOPIC_ID: {0: ONE}}))
        assert is_sealed(sent(talk)[TOPIC_ID, 0])
        change(talk, PLAIN)
        with pytest.raises(CloseConnection, match="name topics from now on"):
            talk.client(PRODUCE, 13, produced({TOPIC_ID: {0: ONE}}))
        assert talk.to_broker == []

    def test_sealed_topics_go_on(self, talk):
        change(talk, {"match": "other", "seal": "none"}, SEALED)
        talk.client(PRODUCE, 13, produced({TOPIC_ID: {0: ONE}}))
        assert is_sealed(sent(talk)[TOPIC_ID, 0])
