"""What `kveil inspect --open` opens: what a consumer would get by the same rules, and why it gets nothing else."""

import asyncio

import pytest

from kveil.protocol.kafka.records import read_records, write_record
from kveil.proxy.inspection.opening import Opened, Opener
from kveil.proxy.keys.keyfile import new_key_file
from kveil.proxy.keys.keyfile_store import create_key_file
from tests.support.conversation import COMPACTED, REALM, Conversation, make_shared
from tests.support.key_log import KeyTopic
from tests.support.producing import PRODUCE, sent
from tests.support.records import at_offset, client_batch, legacy, marker, produced, sealed, tampered
from tests.vectors.reference import Batch, record

T = 1_700_000_000_000


def opened(shared, batch: bytes, topic: str = "t", partition: int = 0) -> Opened:
    return asyncio.run(Opener(shared, topic).open(partition, memoryview(batch)))


def values(found: Opened) -> list[tuple[int, bytes | None, bytes | None]]:
    assert found.problem is None
    return [(offset, one.key, one.value) for offset, one in found.records]


def record_sealed(shared, tmp_path, batch: bytes) -> bytes:
    talk = Conversation(tmp_path, shared=shared)
    talk.settings["t"] = COMPACTED
    talk.client(PRODUCE, 9, produced({"t": {0: batch}}))
    return sent(talk)["t", 0]


def moved(section: bytes, count: int, by: int) -> bytes:
    """Records with other offsets in their batch, as whoever puts batches together moves them."""
    pieces = []
    for delta, offset, key, value, headers in read_records(section, count, count - 1):
        pieces += write_record(delta, offset + by, key, value, headers)
    return b"".join(pieces)


CLIENT = Batch(record(0, b"k", b"v") + record(1, b"k", None) + record(2, None, b""), 3).encode()
INSIDE = [(5, b"k", b"v"), (6, b"k", None), (7, None, b"")]


@pytest.mark.parametrize("mode", ["batch", "record"])
def test_it_opens_by_keys_that_it_gets_itself(tmp_path, mode):
    writer, reader = make_shared(tmp_path), make_shared(tmp_path)
    stored = sealed(writer, "t", 0, CLIENT) if mode == "batch" else record_sealed(writer, tmp_path, CLIENT)
    stored = at_offset(stored, 5)
    for _ in range(2):  # the stored bytes aren't spent
        found = opened(reader, stored)
        assert values(found) == INSIDE
    assert {one.timestamp for _, one in found.records} == {T}


def test_record_keys_are_found_on_the_key_topic(tmp_path):
    rules = [{"match": "t", "mode": "record", "key": "eu", "key_per": "record_key"}]
    topic = KeyTopic()
    writer, reader = (make_shared(tmp_path, topics=rules, key_topic=topic) for _ in range(2))
    assert values(opened(reader, at_offset(record_sealed(writer, tmp_path, CLIENT), 5))) == INSIDE


def test_a_key_that_can_not_be_had_now_is_told(tmp_path):
    rules = [{"match": "t", "mode": "record", "key": "eu", "key_per": "record_key"}]
    topic = KeyTopic()
    writer, reader = (make_shared(tmp_path, topics=rules, key_topic=topic) for _ in range(2))
    stored = record_sealed(writer, tmp_path, CLIENT)
    reader.record_keys.log.is_cut_off = True
    assert opened(reader, stored) == Opened([], "no key can be had to open with now: cut off")


def test_more_keys_than_are_kept_are_told(tmp_path):
    """By whom each is asked for again and again."""
    shared = make_shared(tmp_path, limits={"opened_keys": 1})
    writers = [make_shared(tmp_path) for _ in range(2)]
    sections = [record_sealed(writer, tmp_path, CLIENT)[61:] for writer in writers]
    both = Batch(sections[0] + moved(sections[1], 3, by=3), 6).encode()
    assert "raise limits.opened_keys" in opened(shared, both).problem


def test_a_large_batch_is_not_spent(tmp_path):
    """Its ciphertext lies in several blocks, which are put together in place where that may be."""
    shared = make_shared(tmp_path)
    big = Batch(b"".join(record(n, b"k", b"v" * 20_000) for n in range(20)), 20).encode()
    stored = bytearray(sealed(shared, "t", 0, big, compress=None))
    before = bytes(stored)
    assert len(stored) > 400_000
    found = asyncio.run(Opener(shared, "t").open(0, memoryview(stored)))
    assert (len(found.records), bytes(stored)) == (20, before)


def test_a_key_that_is_not_to_be_had_is_told(tmp_path):
    stored = sealed(make_shared(tmp_path), "t", 0, CLIENT)
    other = tmp_path / "other"
    other.mkdir()
    create_key_file(other / "keys.json", new_key_file(realm=REALM, names=("default", "eu")))
    found = opened(make_shared(other), stored)
    assert (found.records, found.problem) == ([], found.problem)
    assert "default" in found.problem


@pytest.mark.parametrize(
    ("topic", "partition", "why"), [("u", 0, "the wrap does not open"), ("t", 1, "commitment"), ("t", 0, "tag")]
)
def test_what_belongs_elsewhere_or_was_changed_does_not_open(tmp_path, topic, partition, why):
    shared = make_shared(tmp_path)
    stored = sealed(shared, "t", 0, CLIENT)
    found = opened(shared, tampered(stored) if why == "tag" else stored, topic, partition)
    assert found.records == []
    assert why in found.problem


def test_the_rule_says_which_keys_it_accepts(tmp_path):
    stored = sealed(make_shared(tmp_path), "t", 0, CLIENT)
    found = opened(make_shared(tmp_path, topics=[{"match": "*", "key": "eu"}]), stored)
    assert found.problem == "key 'default' of provider 1 is not among those that the rule accepts"


@pytest.mark.parametrize("accept", [True, False])
def test_plain_records_are_shown_where_consumers_get_them(tmp_path, accept):
    found = opened(make_shared(tmp_path, topics=[{"match": "*", "accept_plain": accept}]), CLIENT)
    assert (found.problem is None, len(found.records)) == ((True, 3) if accept else (False, 0))
    assert accept or "no envelope" in found.problem


def test_a_plain_topic_shows_what_is_stored(tmp_path):
    stored = sealed(make_shared(tmp_path), "t", 0, client_batch(3))
    plain = make_shared(tmp_path, topics=[{"match": "*", "seal": "none"}])
    assert values(opened(plain, at_offset(CLIENT, 5))) == INSIDE
    (first, *stubs) = values(opened(plain, stored))
    assert first[2].startswith(b"\xc5KV")
    assert stubs == [(1, None, None), (2, None, None)]
    assert opened(plain, CLIENT[:61] + b"\x01" * (len(CLIENT) - 61)).problem is not None


def test_what_holds_no_records_shows_none(tmp_path):
    shared = make_shared(tmp_path)
    assert "magic 1" in opened(shared, legacy(1)).problem
    assert opened(shared, marker()).problem is None


def test_a_rule_that_names_consumers_does_not_bind_who_has_rules_and_keys(tmp_path):
    stored = sealed(make_shared(tmp_path), "t", 0, CLIENT)
    rules = [{"match": "*", "consumers": ["somebody-else"]}]
    assert len(values(opened(make_shared(tmp_path, topics=rules), stored))) == 3
