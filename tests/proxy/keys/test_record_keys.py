"""Epoch keys of record keys: made once, found again by others, under a generation that obeys the ring's life."""

import asyncio
import os
from dataclasses import replace

import pytest

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_topic import Erased, Generation, KeyTopicCodec, State
from kveil.proxy.config import Limits
from kveil.proxy.keys.errors import KeyDenied, KeyErased, KeyRefused, KeysFull, KeyUnavailable
from kveil.proxy.keys.record_keys import CURRENT_SECONDS, RecordKeys
from kveil.proxy.policy import KeyRef
from tests.support.key_log import KeyTopic
from tests.support.key_rings import key_file_ring

TOPIC = "people"
BLOCK = KeyBlock(registry.KEY_TOPIC, "default", registry.NO_WRAP, "", b"")


@pytest.fixture
def log():
    return KeyTopic()


@pytest.fixture
def rule(make_rule):
    return replace(make_rule("default"), per_record_key=True)


@pytest.fixture
def process(slow, clock, log):
    """Another process each time, over the same key topic and key file."""

    def make(topic=log, **limits):
        ring = key_file_ring(slow, clock=clock, unwrap_cache_seconds=100)
        codec = KeyTopicCodec(ring.hiding_secret, realm=ring.realm)
        keys = RecordKeys(ring, codec, Limits(**limits), clock)
        topic.followed_by(keys)
        return keys

    return make


@pytest.fixture
def keys(process):
    return process()


def ids(keys, *record_keys):
    return [keys.record_id(TOPIC, key) for key in record_keys]


async def sealing(keys, rule, record_key):
    (record_id,) = ids(keys, record_key)
    await keys.prepare(TOPIC, rule, [record_id])
    return keys.sealing_key(TOPIC, rule, record_id)


async def opening(keys, rule, kid, block=BLOCK):
    return keys.opening_key(TOPIC, kid, block, rule) or await keys.unwrap(TOPIC, 0, kid, block, rule)


async def test_each_record_key_has_a_key_of_its_own_and_keeps_it(keys, rule):
    alice, bob, none = [await sealing(keys, rule, key) for key in (b"alice", b"bob", None)]
    assert len({alice.kid, bob.kid, none.kid}) == len({alice.secret, bob.secret, none.secret}) == 3
    assert await sealing(keys, rule, b"alice") is alice
    assert (alice.block, alice.topic) == (BLOCK, TOPIC)


async def test_all_new_keys_of_a_request_are_one_write(keys, rule, log):
    await keys.prepare(TOPIC, rule, ids(keys, *(b"%d" % number for number in range(500))))
    assert log.writes == 2, "one for the generation, one for the keys"
    assert len(log.records) == 501


async def test_the_key_service_hears_of_generations_only(process, rule, slow):
    one, other = process(), process()
    made = [await sealing(one, rule, b"%d" % number) for number in range(50)]
    assert slow.wraps == 1
    for key in made:
        assert (await opening(other, rule, key.kid)).secret == key.secret
    assert slow.unwraps == 1


async def test_two_processes_share_what_either_made(process, rule):
    one, other = process(), process()
    alice = await sealing(one, rule, b"alice")
    assert (await sealing(other, rule, b"alice")).secret == alice.secret


async def test_keys_that_were_made_at_the_same_time_both_open(process, rule, log):
    one, other = process(), process()
    await sealing(one, rule, b"bob")  # so that there is a generation
    await other.catch_up()
    # The other's entry is on the topic, but not read yet, when this one writes its own.
    copy = KeyTopic(log.records)
    late = process(copy)
    theirs = await sealing(late, rule, b"alice")
    one.log.before_write.append(copy.records[len(log.records) :])
    ours = await sealing(one, rule, b"alice")
    for key in (ours, theirs):
        for reader in (one, other):
            assert (await opening(reader, rule, key.kid)).secret == key.secret


async def test_two_requests_at_once_make_one_key(keys, rule, log):
    await asyncio.gather(*(sealing(keys, rule, b"alice") for _ in range(5)))
    assert len(log.records) == 2


async def test_nothing_is_sealed_or_opened_before_the_topic_was_read(process, rule):
    one, other = process(), process()
    alice = await sealing(one, rule, b"alice")
    assert not other.is_current
    assert other.opening_key(TOPIC, alice.kid, BLOCK, rule) is None
    assert other.sealing_key(TOPIC, rule, *ids(other, b"alice")) is None
    other.log.is_cut_off = True
    with pytest.raises(KeyUnavailable):
        await opening(other, rule, alice.kid)
    with pytest.raises(KeyUnavailable):
        await sealing(other, rule, b"alice")


async def test_nor_after_a_time_without_a_word_of_it(keys, rule, clock):
    alice = await sealing(keys, rule, b"alice")
    clock.now += CURRENT_SECONDS + 1
    keys.log.is_cut_off = True
    with pytest.raises(KeyUnavailable):
        await opening(keys, rule, alice.kid)
    keys.log.is_cut_off = False
    assert await opening(keys, rule, alice.kid) is alice


async def test_an_unknown_kid_is_looked_for_before_it_is_missing(process, rule):
    one, other = process(), process()
    await other.catch_up()
    alice = await sealing(one, rule, b"alice")
    assert other.store.entry(alice.kid) is None
    assert (await opening(other, rule, alice.kid)).secret == alice.secret
    looks = other.log.looks
    with pytest.raises(KeyUnavailable, match="no word of its erasure"):
        await opening(other, rule, bytes(16))
    assert other.log.looks == looks + 1


async def test_what_is_erased_says_so_at_once(process, rule, log):
    one, other = process(), process()
    alice, bob = await sealing(one, rule, b"alice"), await sealing(one, rule, b"bob")
    for key in (alice, bob):
        await opening(other, rule, key.kid)
    entry = one.store.entry(alice.kid)
    await one.append([one.store.codec.encode(Erased(entry.record_id, entry.kid, entry.generation, TOPIC))])
    await other.catch_up()
    for reader in (one, other):
        with pytest.raises(KeyErased) as caught:
            await opening(reader, rule, alice.kid)
        assert caught.value.record_id == entry.record_id
        assert await opening(reader, rule, bob.kid)
    anew = await sealing(one, rule, b"alice")
    assert anew.kid != alice.kid


async def test_whose_wire_key_it_is(keys):
    hiding = keys._ring.hiding_key(TOPIC)
    alice, none = ids(keys, b"alice", None)
    assert keys.is_id_of(alice, TOPIC, b"alice", False)
    assert keys.is_id_of(alice, TOPIC, hiding.wire_key(b"alice"), True)
    assert keys.is_id_of(none, TOPIC, None, True)
    for wrong in [(b"bob", False), (hiding.wire_key(b"bob"), True), (None, True), (b"alice", True)]:
        assert not keys.is_id_of(alice, TOPIC, *wrong)
    assert keys.record_id("other", None) != none


async def test_a_disabled_key_stops_opening_with_the_rings_time(keys, rule, slow, clock):
    alice = await sealing(keys, rule, b"alice")
    slow.failure = KeyDenied("disabled")
    assert await opening(keys, rule, alice.kid)
    clock.now += 101
    keys.heard()
    for ask in (opening(keys, rule, alice.kid), sealing(keys, rule, b"alice"), sealing(keys, rule, b"new")):
        with pytest.raises(KeyDenied):
            await ask


async def test_an_outage_stops_what_is_not_at_hand(process, rule, slow, clock):
    one, other = process(), process()
    alice = await sealing(one, rule, b"alice")
    slow.failure = KeyUnavailable("down")
    assert await opening(one, rule, alice.kid)
    with pytest.raises(KeyUnavailable):
        await opening(other, rule, alice.kid)


@pytest.mark.parametrize("change", [{"per_record_key": False}, {"accept_keys": frozenset({KeyRef(1, "eu")})}])
async def test_what_the_rule_does_not_accept_is_refused(keys, rule, change):
    alice = await sealing(keys, rule, b"alice")
    with pytest.raises(KeyRefused):
        keys.opening_key(TOPIC, alice.kid, BLOCK, replace(rule, **change))
    with pytest.raises(KeyRefused):
        keys.opening_key(TOPIC, alice.kid, BLOCK._replace(name="eu"), rule)


async def test_a_generation_under_a_key_that_the_rule_does_not_accept(process, rule, make_rule):
    """Whoever may use one key can't slip keys into the topics of another."""
    foreign = replace(make_rule("eu"), per_record_key=True)
    one, other = process(), process()
    alice = await sealing(one, foreign, b"alice")
    with pytest.raises(KeyRefused):
        await opening(other, rule, alice.kid)


async def test_a_key_of_another_topic_opens_nothing(keys, rule):
    alice = await sealing(keys, rule, b"alice")
    with pytest.raises(KeyUnavailable):
        await keys.unwrap("other", 0, alice.kid, BLOCK, rule)


async def test_an_entry_that_a_broker_made_up_is_passed_over(process, rule, log):
    """For sealing another one is made; it opens nothing."""
    one, other = process(), process()
    alice = await sealing(one, rule, b"alice")
    entry = one.store.entry(alice.kid)
    forged = entry._replace(kid=os.urandom(16), wrapped=os.urandom(72))
    codec = one.store.codec
    log.records[1] = codec.encode(forged)
    made = await sealing(other, rule, b"alice")
    assert made.kid not in {alice.kid, forged.kid}
    with pytest.raises(KeyUnavailable):
        await opening(other, rule, forged.kid)


async def test_one_customers_entry_under_anothers_name_is_not_used(process, rule, log):
    """Else a broker could have Alice's records sealed under Bob's key, which nobody erases for her."""
    one, other = process(), process()
    bob = await sealing(one, rule, b"bob")
    (alice,) = ids(one, b"alice")
    log.records.append(one.store.codec.encode(one.store.entry(bob.kid)._replace(record_id=alice)))
    assert (await sealing(other, rule, b"alice")).kid != bob.kid


async def test_a_generation_that_is_retired_between_look_and_write(process, rule, log):
    """What was written behind its end doesn't count: another key is made under another generation."""
    one = process()
    await sealing(one, rule, b"bob")
    old = one.store.generation(one.store.entry(one.store.kids(*ids(one, b"bob"))[0]).generation)
    one.log.before_write.append([one.store.codec.encode(old._replace(state=State.RETIRED))])
    alice = await sealing(one, rule, b"alice")
    assert one.store.entry(alice.kid).generation != old.kid
    assert one.store.kids(*ids(one, b"alice")) == (alice.kid,)
    assert await sealing(one, rule, b"bob"), "what was there before the end still counts"


async def test_no_generation_is_made_beside_one_that_can_not_be_unwrapped(keys, rule, log):
    """Here is an old copy of the key file, it seems: what it would wrap, others may never read."""
    await keys.catch_up()
    block = KeyBlock(provider=1, name="default", mechanism=1, version="7", wrapped=bytes(72))
    await keys.append([keys.store.codec.encode(Generation(os.urandom(16), State.ACTIVE, block))])
    with pytest.raises(KeyRefused, match="version '7'"):
        await sealing(keys, rule, b"alice")
    assert log.writes == 1


async def test_the_number_of_record_keys_is_bounded(process, rule):
    keys = process(record_keys=3)
    for name in (b"a", b"b", b"c"):
        await sealing(keys, rule, name)
    with pytest.raises(KeysFull, match=r"limits\.record_keys"):
        await sealing(keys, rule, b"d")
    assert await sealing(keys, rule, b"a")


async def test_keys_that_were_dropped_from_memory_are_unwrapped_again_without_a_call(process, rule, slow):
    keys = process(opened_keys=2)
    names = [b"%d" % number for number in range(10)]
    made = [(await sealing(keys, rule, name)).secret for name in names]
    assert [(await sealing(keys, rule, name)).secret for name in names] == made
    assert len(keys._opened) == 2
    assert slow.wraps == 1


async def test_nobody_follows_the_topic(process, rule):
    keys = process()
    keys.log = None
    with pytest.raises(KeyUnavailable, match="not followed"):
        await sealing(keys, rule, b"alice")
