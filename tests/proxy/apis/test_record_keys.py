"""Records through the session where every record key has an epoch key: sealed, opened, erased, refused."""

import asyncio

import pytest

from kveil.protocol.envelope.key_topic import Erased
from kveil.protocol.kafka.record_batch import read_header
from kveil.protocol.kafka.records import read_headers, read_records
from kveil.proxy.errors import ErrorCode
from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable
from kveil.proxy.needs import RecordKeysNeed
from tests.support.fetching import fetch_one
from tests.support.key_log import KeyTopic
from tests.support.producing import PRODUCE, error_of, sent
from tests.support.records import at_offset, produced
from tests.vectors import reference
from tests.vectors.reference import Batch

RULE = {"match": "t", "mode": "record", "key": "eu", "key_per": "record_key"}


def batch(*keys):
    section = b"".join(reference.record(at, key, b"of %a" % key, at) for at, key in enumerate(keys))
    return Batch(section, len(keys)).encode()


CUSTOMERS = batch(b"alice", b"bob", None, b"alice")


def contents(records):
    top = read_header(records)
    return [(key, value, more) for _, _, key, value, more in
            read_records(bytes(records[61:]), top.record_count, top.last_offset_delta)]  # fmt: skip


@pytest.fixture
def key_topic():
    return KeyTopic()


@pytest.fixture
def talk(converse, key_topic):
    """A conversation with another process over the same key topic each time; names are settings of the rule."""

    def begin(limits=None, provider=None, **rule):
        return converse(topics=[{**RULE, **rule}], key_topic=key_topic, limits=limits or {}, provider=provider)

    return begin


def sealed_by(talk, records=CUSTOMERS):
    """What the broker gets of a batch."""
    talk.client(PRODUCE, 9, produced({"t": {0: records}}))
    return at_offset(sent(talk)["t", 0], 0)


def erase(talk, record_key):
    keys = talk.shared.record_keys
    asyncio.run(keys.catch_up())
    for kid in keys.store.kids(keys.record_id("t", record_key)):
        entry = keys.store.entry(kid)
        asyncio.run(keys.append([keys.store.codec.encode(Erased(entry.record_id, kid, entry.generation, "t"))]))


@pytest.mark.parametrize("keys", ["hidden", "clear"])
def test_another_process_opens_what_one_has_sealed(talk, keys):
    stored = sealed_by(talk(keys=keys))
    error, records = fetch_one(talk(keys=keys), stored)
    assert (error, contents(records)) == (0, contents(CUSTOMERS))
    assert (b"alice" in stored) == (keys == "clear")


def test_all_new_record_keys_of_a_request_are_one_need(talk):
    one = talk()
    sealed_by(one)
    (need,) = [need for need in one.needed if isinstance(need, RecordKeysNeed)]
    assert len(need.record_ids) == 3
    one.needed.clear()
    sealed_by(one)
    assert not [need for need in one.needed if isinstance(need, RecordKeysNeed)]


def test_an_erased_one_is_an_error_by_default(talk):
    stored = sealed_by(talk())
    reader = talk()
    assert fetch_one(reader, stored)[0] == 0
    erase(reader, b"alice")
    assert fetch_one(reader, stored) == (ErrorCode.CORRUPT_MESSAGE, b"")
    assert fetch_one(reader, sealed_by(talk(), batch(b"bob")))[0] == 0


@pytest.mark.parametrize("keys", ["hidden", "clear"])
def test_or_null(talk, keys):
    stored = sealed_by(talk(keys=keys))
    reader = talk(keys=keys, erased="null")
    erase(reader, b"alice")
    error, records = fetch_one(reader, stored)
    assert error == 0
    found = contents(records)
    assert [value for _, value, _ in found] == [None, b"of b'bob'", b"of None", None]
    assert [[name for name, _, _ in read_headers(more)[0]] for _, _, more in found] == [
        [b"kveil-erased"], [], [], [b"kveil-erased"],
    ]  # fmt: skip
    assert (found[0][0] == b"alice") == (keys == "clear")
    assert found[0][0] == found[3][0]


def test_the_erased_ones_envelope_beside_anothers_key_is_no_deletion(talk):
    """A broker that writes it so wants a consumer to believe that Bob was deleted."""
    stored = sealed_by(talk(keys="clear"), batch(b"alice"))
    reader = talk(keys="clear", erased="null")
    erase(reader, b"alice")
    forged = stored.replace(b"alice", b"caro1")
    assert forged != stored
    assert fetch_one(reader, stored)[0] == 0
    assert fetch_one(reader, forged) == (ErrorCode.CORRUPT_MESSAGE, b"")


def test_a_key_that_is_not_on_the_topic_is_to_be_tried_again(talk, key_topic):
    stored = sealed_by(talk())
    del key_topic.records[1:]
    assert fetch_one(talk(), stored) == (ErrorCode.KAFKA_STORAGE_ERROR, b"")


def test_as_many_record_keys_as_may_be(talk):
    code, text = error_of(talk(limits={"record_keys": 2}), CUSTOMERS)
    assert code == ErrorCode.POLICY_VIOLATION
    assert "limits.record_keys" in text


@pytest.mark.parametrize(
    ("failure", "code"),
    [(KeyUnavailable("down"), ErrorCode.NOT_ENOUGH_REPLICAS), (KeyDenied("no"), ErrorCode.TOPIC_AUTHORIZATION_FAILED)],
)
def test_without_a_key_nothing_is_sent(talk, monkeypatch, failure, code):
    one = talk()

    async def fails(*args):
        raise failure

    monkeypatch.setattr(one.shared.record_keys, "prepare", fails)
    assert error_of(one, CUSTOMERS)[0] == code


def test_what_is_no_batch_is_refused_as_ever(talk):
    broken = bytearray(CUSTOMERS)
    broken[-1] ^= 1
    assert error_of(talk(), bytes(broken))[0] == ErrorCode.CORRUPT_MESSAGE


def test_without_a_key_hiding_key(talk, monkeypatch):
    one = talk()
    monkeypatch.setattr(one.shared.keys, "hiding_key", lambda topic, **_: None)
    monkeypatch.setattr(type(one.shared.keys), "hiding_key_id", None)
    code, text = error_of(one, CUSTOMERS)
    assert code == ErrorCode.TOPIC_AUTHORIZATION_FAILED
    assert "kveil keys init" in text


def test_a_reader_whose_rule_says_nothing_of_it_opens_nothing(talk, converse):
    stored = sealed_by(talk())
    assert fetch_one(converse(topics=[{"match": "t", "mode": "record", "key": "eu"}]), stored)[0] == 2
