"""Record mode and the key-hiding key: what waits for it, and that no record's key is ever sealed in sight."""

import asyncio
from dataclasses import replace

import pytest

from kveil.protocol.envelope.record import peek_records
from kveil.protocol.kafka.record_batch import read_header
from kveil.proxy.admin.metrics import Metrics
from kveil.proxy.context import Shared
from kveil.proxy.errors import CloseConnection, ErrorCode
from kveil.proxy.keys.calls import KeyCalls
from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable
from kveil.proxy.keys.hiding import unwrap_hiding_key, wrap_new_hiding_key
from kveil.proxy.keys.keyfile import HidingKey
from kveil.proxy.keys.providers.keyfile import KeyFileProvider
from kveil.proxy.keys.realm import Realm
from kveil.proxy.keys.ring import KeyRing
from kveil.proxy.needs import HidingKeyNeed, OpeningKeyNeed, SealingKeyNeed, TopicSettingsNeed
from tests.support.conversation import COMPACTED, REALM, Conversation, key_file, make_shared, read_response
from tests.support.fetching import fetch_one
from tests.support.key_services.own import OwnProvider
from tests.support.kio_instances import versions_of
from tests.support.producing import PRODUCE, error_of, sent
from tests.support.records import at_offset, client_batch, produced

RECORDS = [{"match": "*", "mode": "record"}]
CLEAR = [{"match": "*", "mode": "record", "keys": "clear"}]
GOOD = client_batch()
SHARE_FETCH = 78
ID = bytes(range(16))
DENIED, UNAVAILABLE = KeyDenied("not yours"), KeyUnavailable("down")


@pytest.fixture(scope="module")
def hiding_key(tmp_path_factory):
    """Wrapped by a service of the deployment's own, which has the keys of a folder."""
    folder = tmp_path_factory.mktemp("service")
    own = OwnProvider(str(key_file(folder)))
    return own, asyncio.run(wrap_new_hiding_key(KeyCalls(own, 5.0, Metrics()), "default", REALM))


@pytest.fixture
def share(tmp_path, hiding_key):
    """A proxy whose key-hiding key is wrapped, or missing."""
    own, wrapped = hiding_key

    def make(*, made: bool = True, topics=RECORDS) -> Shared:
        shared = make_shared(tmp_path, topics=topics)
        ring = KeyRing(
            {1: KeyFileProvider(key_file(tmp_path)), own.id: own},
            Realm(name=REALM, hiding_key=wrapped if made else None),
            shared.settings.keys,
            shared.settings.limits,
            metrics=Metrics(),
            clock=shared.now,
        )
        return replace(shared, keys=ring)

    return make


@pytest.fixture
def stored(tmp_path, share) -> bytes:
    """A batch as another proxy sealed it."""
    talk = Conversation(tmp_path, shared=share())
    talk.settings["t"] = COMPACTED
    talk.client(PRODUCE, 9, produced({"t": {0: GOOD}}))
    return at_offset(sent(talk)["t", 0], 0)


class Authority:
    """Of a realm of identities, which has handed out nothing yet, or its key."""

    def __init__(self, made: HidingKey | None = None) -> None:
        self.made = made

    @property
    def key_id(self) -> bytes | None:
        return None if self.made is None else self.made.id

    def agrees(self, kept: bytes | None) -> bool:
        return True

    async def check(self, kept: bytes | None) -> None:
        pass

    async def open(self) -> HidingKey:
        if self.made is None:
            raise KeyUnavailable("not yet")
        return self.made


def failing(talk: Conversation, monkeypatch, failure: Exception) -> None:
    async def unwrap() -> None:
        raise failure

    monkeypatch.setattr(talk.shared.keys, "unwrap_hiding_key", unwrap)


class TestSealing:
    def test_waits_for_it_once(self, tmp_path, share):
        talk = Conversation(tmp_path, shared=share())
        for _ in range(2):
            talk.client(PRODUCE, 9, produced({"t": {0: GOOD}}))
        assert [type(need) for need in talk.needed] == [TopicSettingsNeed, SealingKeyNeed, HidingKeyNeed]
        assert len(talk.to_broker) == 2

    @pytest.mark.parametrize(
        ("failure", "code"),
        [(DENIED, ErrorCode.TOPIC_AUTHORIZATION_FAILED), (UNAVAILABLE, ErrorCode.NOT_ENOUGH_REPLICAS)],
    )
    def test_sends_nothing_without(self, tmp_path, share, monkeypatch, failure, code):
        talk = Conversation(tmp_path, shared=share())
        failing(talk, monkeypatch, failure)
        assert error_of(talk, GOOD)[0] is code

    def test_says_how_to_make_one(self, tmp_path, share):
        talk = Conversation(tmp_path, shared=share(made=False))
        code, text = error_of(talk, GOOD)
        assert code is ErrorCode.TOPIC_AUTHORIZATION_FAILED
        assert "kveil keys init" in text

    def test_waits_for_what_an_authority_hands_out(self, tmp_path, share):
        shared = share(made=False)
        shared.keys.take_hiding_key_of(Authority())
        talk = Conversation(tmp_path, shared=shared)
        assert error_of(talk, GOOD)[0] is ErrorCode.NOT_ENOUGH_REPLICAS
        shared.keys.take_hiding_key_of(Authority(HidingKey(id=bytes(16), created="", secret=bytes(32))))
        talk.client(PRODUCE, 9, produced({"t": {0: GOOD}}))
        view = memoryview(sent(talk)["t", 0])
        assert {origin.says.hiding_key_id for origin in peek_records(view, read_header(view)).origins} == {bytes(16)}

    def test_needs_none_where_keys_are_clear(self, tmp_path, share):
        talk = Conversation(tmp_path, shared=share(made=False, topics=CLEAR))
        talk.client(PRODUCE, 9, produced({"t": {0: GOOD}}))
        view = memoryview(sent(talk)["t", 0])
        assert all(origin.says.hiding_key_id is None for origin in peek_records(view, read_header(view)).origins)

    def test_needs_none_in_batch_mode(self, tmp_path, share):
        talk = Conversation(tmp_path, shared=share(made=False, topics=[{"match": "*", "mode": "batch"}]))
        talk.client(PRODUCE, 9, produced({"t": {0: GOOD}}))
        assert sent(talk)["t", 0]


class TestOpening:
    def test_waits_for_it_once(self, tmp_path, share, stored):
        talk = Conversation(tmp_path, shared=share())
        for _ in range(2):
            assert fetch_one(talk, stored)[0] == 0
        assert [type(need) for need in talk.needed] == [OpeningKeyNeed, HidingKeyNeed]

    @pytest.mark.parametrize(
        ("failure", "code"),
        [(DENIED, ErrorCode.TOPIC_AUTHORIZATION_FAILED), (UNAVAILABLE, ErrorCode.KAFKA_STORAGE_ERROR)],
    )
    def test_delivers_nothing_without(self, tmp_path, share, stored, monkeypatch, failure, code):
        talk = Conversation(tmp_path, shared=share())
        failing(talk, monkeypatch, failure)
        assert fetch_one(talk, stored) == (code, b"")

    def test_waits_for_what_an_authority_hands_out(self, tmp_path, share, stored, hiding_key):
        """Retriably until it is there; then what it hid opens, and what another one hid doesn't."""
        own, wrapped = hiding_key
        plain = asyncio.run(unwrap_hiding_key(KeyCalls(own, 5.0, Metrics()), wrapped, REALM))
        shared = share(made=False)
        talk = Conversation(tmp_path, shared=shared)
        shared.keys.take_hiding_key_of(Authority())
        assert fetch_one(talk, stored) == (ErrorCode.KAFKA_STORAGE_ERROR, b"")
        shared.keys.take_hiding_key_of(Authority(plain))
        assert fetch_one(talk, stored)[0] == 0
        other = share(made=False)
        other.keys.take_hiding_key_of(Authority(replace(plain, id=bytes(16))))
        assert fetch_one(Conversation(tmp_path, shared=other), stored)[0] == ErrorCode.CORRUPT_MESSAGE

    def test_asks_for_none_that_was_not_made(self, tmp_path, share, stored):
        """A broker could make up ids."""
        talk = Conversation(tmp_path, shared=share(made=False))
        assert fetch_one(talk, stored) == (ErrorCode.CORRUPT_MESSAGE, b"")
        assert [type(need) for need in talk.needed] == [OpeningKeyNeed]


class TestShareGroups:
    def fetch(self, talk: Conversation, stored: bytes) -> tuple[int, bool]:
        version = versions_of(SHARE_FETCH)[-1]
        partition = {
            "partition_index": 0,
            "records": stored,
            "acquired_records": [{"first_offset": 0, "last_offset": 2, "delivery_count": 1}],
            "current_leader": {"leader_id": 1, "leader_epoch": 1},
        }
        number = talk.client(SHARE_FETCH, version, {"topics": [{"topic_id": ID, "partitions": []}]})
        talk.broker(SHARE_FETCH, version, number, {"responses": [{"topic_id": ID, "partitions": [partition]}]})
        (topic,) = read_response(SHARE_FETCH, version, talk.to_client[0]).responses
        (found,) = topic.partitions
        return int(found.error_code), bool(found.records)

    def test_records_are_left_with_the_broker_until_it_is_there(self, tmp_path, share, stored, monkeypatch):
        shared = share()
        shared.topic_names.learn(ID, "t")
        with monkeypatch.context() as down:
            talk = Conversation(tmp_path, shared=shared)
            failing(talk, down, UNAVAILABLE)
            with pytest.raises(CloseConnection, match="for now"):
                self.fetch(talk, stored)
            again = Conversation(tmp_path, shared=shared)
            with pytest.raises(CloseConnection, match="left with the broker"):
                self.fetch(again, stored)
            assert again.to_broker == []
        back = Conversation(tmp_path, shared=shared)
        assert self.fetch(back, stored) == (0, True)
        assert shared.awaited_keys == {}
