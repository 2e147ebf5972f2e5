"""The key topic as one reader sees it: what counts, in which order, and what a log cleaner may leave out."""

import os

import pytest

from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_topic import Erased, Generation, KeyTopicCodec, State, WrappedRecordKey
from kveil.proxy.keys.key_topic_store import KeyTopicStore
from kveil.proxy.policy import KeyRef

CODEC = KeyTopicCodec(lambda: bytes(range(32)), realm="test")
CUSTOMERS = KeyRef(1, "customers")


def generation(number=1, state=State.ACTIVE, name="customers"):
    block = KeyBlock(provider=1, name=name, mechanism=1, version="1", wrapped=bytes(72))
    return Generation(bytes((number,)) * 16, state, block)


def wrapped(record=1, kid=1, under=1, topic="orders"):
    return WrappedRecordKey(bytes((record,)) * 16, bytes((kid,)) * 16, bytes((under,)) * 16, topic, os.urandom(72))


def erased(entry, under=None):
    return Erased(entry.record_id, entry.kid, under.kid if under else entry.generation, entry.topic)


class Log:
    """What stands on the topic, and readers of it."""

    def __init__(self):
        self.records = []

    def add(self, *entries):
        self.records += [entry if type(entry) is tuple else CODEC.encode(entry) for entry in entries]

    def read(self, most=100):
        """Somebody who has followed from the beginning."""
        store = KeyTopicStore(CODEC, most)
        for offset, record in enumerate(self.records):
            store.apply(offset, *record)
        return store

    def read_compacted(self, most=100):
        """Somebody who comes late: the last record of each key is left, tombstones are gone too."""
        last = {key: offset for offset, (key, _) in enumerate(self.records)}
        store = KeyTopicStore(CODEC, most)
        for offset, (key, value) in enumerate(self.records):
            if last[key] == offset and value is not None:
                store.apply(offset, key, value)
        return store

    def readers(self):
        return self.read(), self.read_compacted()


@pytest.fixture
def log():
    made = Log()
    made.add(generation())
    return made


def test_an_epoch_key_is_found_by_its_kid_and_its_record_key(log):
    one, other = wrapped(1, 1), wrapped(2, 2, topic="payments")
    log.add(one, other)
    for store in log.readers():
        assert (store.entry(one.kid), store.entry(other.kid)) == (one, other)
        assert (store.kids(one.record_id), store.kids(other.record_id)) == ((one.kid,), (other.kid,))
        assert store.kids(bytes(16)) == ()
        assert store.entry(bytes(16)) is store.erasure(bytes(16)) is store.generation(bytes(16)) is None
        assert len(store) == 2


def test_two_keys_of_one_record_key_both_stand(log):
    one, other = wrapped(1, 1), wrapped(1, 2)
    log.add(one, other)
    for store in log.readers():
        assert store.kids(one.record_id) == (one.kid, other.kid)


def test_an_entry_that_is_taken_away(log):
    one, other = wrapped(1, 1), wrapped(1, 2)
    log.add(one, other, CODEC.removal_of(one))
    for store in log.readers():
        assert store.entry(one.kid) is None
        assert store.kids(one.record_id) == (other.kid,)
    log.add(CODEC.removal_of(other))
    for store in log.readers():
        assert store.kids(one.record_id) == ()
        assert len(store) == 0


def test_what_is_erased_is_so_whatever_stands_beside_it(log):
    one, other = wrapped(1, 1), wrapped(2, 2)
    log.add(one, other, erased(one), CODEC.removal_of(one), one)
    for store in log.readers():
        assert store.entry(one.kid) is None
        assert store.kids(one.record_id) == ()
        assert store.erasure(one.kid) == erased(one)
        assert store.entry(other.kid) == other
        assert store.erasure(other.kid) is None
        assert store.pending() == [erased(one)]


def test_nobody_takes_an_erasure_away(log):
    one = wrapped()
    log.add(one, erased(one), (CODEC.encode(erased(one))[0], None))
    assert log.read().erasure(one.kid) == erased(one)


def test_a_record_key_may_come_back_after_its_erasure(log):
    one, anew = wrapped(1, 1), wrapped(1, 2)
    log.add(one, erased(one), CODEC.removal_of(one), anew)
    for store in log.readers():
        assert store.kids(one.record_id) == (anew.kid,)


def test_which_generation_seals(log):
    log.add(generation(2), generation(3, name="other"))
    for store in log.readers():
        assert store.generations(CUSTOMERS, State.ACTIVE) == [generation(1), generation(2)]
        assert store.generations(KeyRef(2, "customers"), State.ACTIVE) == []
    log.add(generation(1, State.RETIRED))
    for store in log.readers():
        assert store.generations(CUSTOMERS, State.ACTIVE) == [generation(2)]
        assert store.generations(CUSTOMERS, State.RETIRED) == [generation(1, State.RETIRED)]
        assert set(store.all_generations) == {generation(1, State.RETIRED), generation(2), generation(3, name="other")}


def test_a_retired_generation_opens_what_came_before_and_nothing_behind(log):
    before, behind = wrapped(1, 1), wrapped(2, 2)
    log.add(before, generation(1, State.RETIRED), behind)
    for store in log.readers():
        assert store.entry(before.kid) == before
        assert store.entry(behind.kid) is None
        assert store.kids(behind.record_id) == ()


def test_a_retired_generation_stays_so(log):
    """A broker may show an old copy of it again."""
    log.add(generation(1, State.RETIRED), generation(1), wrapped())
    store = log.read()
    assert store.generations(CUSTOMERS, State.ACTIVE) == []
    assert len(store) == 0


def test_an_entry_moves_to_a_new_generation(log):
    one = wrapped(1, 1, under=1)
    moved = wrapped(1, 1, under=2)
    log.add(one, generation(2), generation(1, State.RETIRED), moved, CODEC.removal_of(generation(1)))
    for store in log.readers():
        assert store.entry(one.kid) == moved
        assert store.kids(one.record_id) == (one.kid,)
        assert list(store.under(moved.generation)) == [moved]
        assert list(store.under(one.generation)) == []
        assert store.generation(one.generation) is None


def test_a_copy_from_a_generation_that_is_gone_replaces_nothing(log):
    one, moved = wrapped(1, 1, under=1), wrapped(1, 1, under=2)
    log.add(one, generation(2), moved, CODEC.removal_of(generation(1)), one)
    assert log.read().entry(one.kid) == moved


def test_an_erasure_is_pending_until_its_generation_is_gone(log):
    one = wrapped()
    log.add(one, erased(one), CODEC.removal_of(one), generation(1, State.RETIRED))
    for store in log.readers():
        assert store.pending() == [erased(one)]
    log.add(CODEC.removal_of(generation(1)))
    for store in log.readers():
        assert store.pending() == []
        assert store.erasure(one.kid) == erased(one)


@pytest.mark.parametrize("erasure_first", [True, False])
def test_an_erasure_that_crossed_a_rewrapping_is_noticed(log, erasure_first):
    """Else the new generation would hold the wrap of what is reported as gone."""
    one, moved = wrapped(1, 1, under=1), wrapped(1, 1, under=2)
    log.add(one, generation(2), *((erased(one), moved) if erasure_first else (moved, erased(one))))
    told = erased(one, under=generation(2))
    for store in log.readers():
        assert store.entry(one.kid) is None
        assert store.revived() == [told]
    log.add(told, CODEC.removal_of(moved))
    for store in log.readers():
        assert store.revived() == []
        assert store.pending() == [told]


def test_what_is_no_entry_is_passed_over_and_counted(log):
    log.add((b"foreign", b"value"), (None, b"x"), (CODEC.encode(generation(5))[0], b"\1\1" + bytes(60)))
    store = log.read()
    assert store.refused == 3
    assert store.generations(CUSTOMERS, State.ACTIVE) == [generation(1)]


def test_a_kid_under_another_record_key_leaves_the_first_one(log):
    """A broker may write that. The wrap is bound to its record key, so neither finds a wrong key."""
    one, forged = wrapped(1, 1), wrapped(2, 1)
    log.add(one, forged)
    store = log.read()
    assert store.kids(one.record_id) == ()
    assert store.kids(forged.record_id) == (one.kid,)


def test_the_number_of_keys_is_bounded(log):
    log.add(*(wrapped(number, number) for number in range(1, 20)))
    store = log.read(most=10)
    assert len(store) == 11
    assert store.dropped == 8
    assert not store.has_room(1)
    assert log.read(most=20).has_room(1)
    assert not log.read(most=20).has_room(2)


def test_names_that_a_broker_makes_up_are_bounded(log, monkeypatch):
    monkeypatch.setattr("kveil.proxy.keys.key_topic_store._NUMBERS", 3)
    log.add(wrapped(1, 1, topic="a"), wrapped(2, 2, topic="b"), wrapped(3, 3, topic="c"), wrapped(4, 4, topic="a"))
    store = log.read()
    assert store.dropped == 1
    assert [store.entry(bytes((kid,)) * 16) is not None for kid in (1, 2, 3, 4)] == [True, True, False, True]
