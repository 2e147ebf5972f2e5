"""The key ring seals: renewals, limits, rotation, and one call for many."""

import asyncio
import dataclasses
import gc
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from kveil.protocol.envelope.key_schedule import derive_kid
from kveil.proxy.config import Limits
from kveil.proxy.keys import sealing
from kveil.proxy.keys.breaker import LONGEST_PAUSE_SECONDS
from kveil.proxy.keys.calls import TRIES
from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable
from kveil.proxy.keys.keyfile import add_key, rotate_key
from kveil.proxy.keys.keyfile_store import change_key_file
from kveil.proxy.keys.ring import LOOK_SECONDS
from tests.support.key_rings import key_file_ring

HOUR = 3600


async def test_a_key_is_made_once_and_then_there(ring, rule, clock):
    assert ring.sealing_key("orders", rule, clock.now) is None
    key = await ring.renew("orders", rule)
    assert ring.sealing_key("orders", rule, clock.now) is key
    assert (key.realm, key.topic, key.block.name, key.block.version) == ("test", "orders", "default", "1")
    assert key.kid == derive_kid(key.secret, realm="test", topic="orders", provider=1)
    assert await ring.renew("orders", rule) is key


async def test_each_topic_has_a_key_of_its_own(ring, rule):
    keys = [await ring.renew(topic, rule) for topic in ("a", "b", "c")]
    assert len({key.secret for key in keys}) == len({key.kid for key in keys}) == 3


async def test_a_key_ends_with_its_age(ring, rule, clock):
    first = await ring.renew("orders", rule)
    clock.now += 24 * HOUR - 1
    assert await ring.renew("orders", rule) is first
    assert ring.sealing_key("orders", rule, clock.now) is first
    clock.now += 1
    assert ring.sealing_key("orders", rule, clock.now) is None
    second = await ring.renew("orders", rule)
    assert second.kid != first.kid
    assert ring.sealing_key("orders", rule, clock.now) is second


async def test_the_age_can_be_lowered(provider, rule, clock):
    ring = key_file_ring(provider, limits=Limits(epoch_key_hours=0.5), clock=clock)
    first = await ring.renew("orders", rule)
    clock.now += HOUR / 2 - 1
    assert await ring.renew("orders", rule) is first
    clock.now += 1
    assert await ring.renew("orders", rule) is not first


async def test_the_age_counts_from_before_a_slow_call(reader, slow, rule, clock, settle):
    slow.gate.clear()
    waiting = asyncio.create_task(reader.renew("orders", rule))
    await settle()
    clock.now += 10
    slow.gate.set()
    await waiting
    clock.now += 24 * HOUR - 10
    assert reader.sealing_key("orders", rule, clock.now) is None


async def test_a_key_ends_with_its_batches(ring, rule, clock, monkeypatch):
    monkeypatch.setattr(sealing, "MAX_EPOCH_BATCHES", 3)
    key = await ring.renew("orders", rule)
    for _ in range(3):
        assert ring.sealing_key("orders", rule, clock.now) is key
        ring.note_use(key, 1)
    assert ring.sealing_key("orders", rule, clock.now) is None


async def test_a_key_ends_with_its_bytes(ring, rule, clock, monkeypatch):
    monkeypatch.setattr(sealing, "MAX_EPOCH_BYTES", 1000)
    key = await ring.renew("orders", rule)
    ring.note_use(key, 999)
    assert ring.sealing_key("orders", rule, clock.now) is key
    ring.note_use(key, 1)
    assert ring.sealing_key("orders", rule, clock.now) is None


def test_the_limits_are_the_format_s():
    assert sealing.MAX_EPOCH_BATCHES == 2**32
    assert sealing.MAX_EPOCH_BYTES == 32 * 2**40


async def test_a_replaced_key_is_counted_no_more(ring, rule, clock, monkeypatch):
    monkeypatch.setattr(sealing, "MAX_EPOCH_BATCHES", 2)
    first = await ring.renew("orders", rule)
    clock.now += 24 * HOUR
    second = await ring.renew("orders", rule)
    ring.note_use(first, 1)
    ring.note_use(first, 1)
    assert ring.sealing_key("orders", rule, clock.now) is second
    ring.note_use(dataclasses.replace(first, topic="orders"), 1)


async def test_uses_of_an_unknown_key_are_harmless(ring, reader, rule):
    key = await ring.renew("orders", rule)
    reader.note_use(key, 1)


async def test_another_key_name_needs_another_key(ring, rule, make_rule, clock):
    await ring.renew("orders", rule)
    other = make_rule("eu")
    assert ring.sealing_key("orders", other, clock.now) is None
    assert (await ring.renew("orders", other)).block.name == "eu"


async def test_a_rotation_is_noticed_while_sealing_goes_on(ring, rule, clock, path):
    await ring.renew("orders", rule)
    change_key_file(path, lambda content: rotate_key(content, "default"))
    assert ring.sealing_key("orders", rule, clock.now)
    clock.now += LOOK_SECONDS
    assert ring.sealing_key("orders", rule, clock.now) is None
    assert (await ring.renew("orders", rule)).block.version == "2"


async def test_a_rotation_of_another_key_changes_nothing(ring, rule, clock, path):
    key = await ring.renew("orders", rule)
    change_key_file(path, lambda content: rotate_key(content, "eu"))
    clock.now += LOOK_SECONDS
    assert ring.sealing_key("orders", rule, clock.now) is None  # something has changed: is it this key?
    assert await ring.renew("orders", rule) is key


async def test_a_reload_notices_a_rotation_at_once(ring, rule, clock, path):
    await ring.renew("orders", rule)
    change_key_file(path, lambda content: rotate_key(content, "default"))
    ring.reload()
    assert ring.sealing_key("orders", rule, clock.now) is None
    assert (await ring.renew("orders", rule)).block.version == "2"


async def test_a_reload_begins_new_epoch_keys(ring, rule, clock):
    first = await ring.renew("orders", rule)
    ring.reload()
    assert ring.sealing_key("orders", rule, clock.now) is None
    second = await ring.renew("orders", rule)
    assert second.kid != first.kid
    assert ring.opening_key("orders", first.kid, first.block, rule) is first  # what was sealed opens on


async def test_a_bad_new_file_stops_no_sealing(ring, rule, clock, path):
    key = await ring.renew("orders", rule)
    path.write_bytes(b"half of a fi")
    clock.now += LOOK_SECONDS
    with capture_logs() as lines:
        assert ring.sealing_key("orders", rule, clock.now) is key
        assert (await ring.renew("other", rule)).block.version == "1"
    assert [line["event"] for line in lines if line["event"] != "audit"] == ["keys_reload_refused"]


async def test_a_key_that_was_added_is_found(ring, make_rule, path):
    with pytest.raises(KeyDenied, match="kveil keys add us"):
        await ring.renew("orders", make_rule("us"))
    change_key_file(path, lambda content: add_key(content, "us"))
    assert (await ring.renew("orders", make_rule("us"))).block.name == "us"


async def test_many_who_need_the_same_key_make_one_call(reader, slow, rule, settle):
    slow.gate.clear()
    waiting = [asyncio.create_task(reader.renew("orders", rule)) for _ in range(50)]
    await settle()
    slow.gate.set()
    keys = await asyncio.gather(*waiting)
    assert slow.wraps == 1
    assert all(key is keys[0] for key in keys)


async def test_other_topics_do_not_wait(reader, slow, rule, settle):
    slow.gate.clear()
    waiting = [asyncio.create_task(reader.renew(topic, rule)) for topic in ("a", "b")]
    await settle()
    assert slow.wraps == 2
    slow.gate.set()
    await asyncio.gather(*waiting)


async def test_a_failed_call_fails_all_who_wait_and_the_next_tries_again(reader, slow, rule, settle, clock):
    slow.gate.clear()
    slow.failure = KeyUnavailable("down")
    waiting = [asyncio.create_task(reader.renew("orders", rule)) for _ in range(3)]
    await settle()
    slow.gate.set()
    assert [str(found) for found in await asyncio.gather(*waiting, return_exceptions=True)] == ["down"] * 3
    assert slow.wraps == TRIES
    slow.failure = None
    clock.now += LONGEST_PAUSE_SECONDS
    assert await reader.renew("orders", rule)
    assert slow.wraps == TRIES + 1


class TestLease:
    """A key that is disabled seals no longer than a lease; an outage of less than its rest stops nothing."""

    @pytest.fixture
    def sealer(self, slow, clock):
        return key_file_ring(slow, clock=clock, seal_lease_seconds=300)

    async def test_ends(self, sealer, slow, rule, clock, settle):
        await sealer.renew("orders", rule)
        clock.now += 299
        slow.failure = KeyUnavailable("down")
        assert sealer.sealing_key("orders", rule, clock.now)
        clock.now += 1
        assert sealer.sealing_key("orders", rule, clock.now) is None
        with pytest.raises(KeyUnavailable):
            await sealer.renew("orders", rule)

    async def test_is_renewed_without_a_new_epoch_key(self, sealer, slow, rule, clock):
        key = await sealer.renew("orders", rule)
        clock.now += 300
        assert await sealer.renew("orders", rule) is key
        assert sealer.sealing_key("orders", rule, clock.now) is key
        assert slow.wraps == 2

    async def test_is_renewed_ahead_and_nobody_waits(self, sealer, slow, rule, clock, settle):
        key = await sealer.renew("orders", rule)
        clock.now += 199
        assert sealer.sealing_key("orders", rule, clock.now) is key
        await settle()
        assert slow.wraps == 1
        clock.now += 1
        slow.gate.clear()
        for _ in range(10):
            assert sealer.sealing_key("orders", rule, clock.now) is key
        await settle()
        assert slow.wraps == 2
        slow.gate.set()
        await settle()
        clock.now += 150
        assert sealer.sealing_key("orders", rule, clock.now) is key
        assert slow.wraps == 2

    async def test_ends_at_once_when_the_key_is_denied(self, sealer, slow, rule, clock, settle):
        await sealer.renew("orders", rule)
        clock.now += 200
        slow.failure = KeyDenied("default is disabled")
        assert sealer.sealing_key("orders", rule, clock.now)  # which asks
        await settle()
        assert sealer.sealing_key("orders", rule, clock.now) is None
        with pytest.raises(KeyDenied, match="disabled"):
            await sealer.renew("orders", rule)

    async def test_a_denied_key_costs_no_call_for_each_try(self, sealer, slow, rule, clock):
        slow.failure = KeyDenied("default is disabled")
        for _ in range(20):
            with pytest.raises(KeyDenied, match="disabled"):
                await sealer.renew("orders", rule)
        assert slow.wraps == 1
        with pytest.raises(KeyDenied, match="disabled"):
            await sealer.renew("other", rule)  # which may be allowed
        assert slow.wraps == 2
        slow.failure = None
        clock.now += Limits().refused_key_seconds
        assert await sealer.renew("orders", rule)

    async def test_sighup_asks_for_a_denied_key_again(self, sealer, slow, rule):
        slow.failure = KeyDenied("default is disabled")
        with pytest.raises(KeyDenied):
            await sealer.renew("orders", rule)
        slow.failure = None
        sealer.reload()
        assert await sealer.renew("orders", rule)

    async def test_a_failed_renewal_is_tried_again_while_it_holds(self, sealer, slow, rule, clock, settle):
        key = await sealer.renew("orders", rule)
        clock.now += 200
        slow.failure = KeyUnavailable("down")
        assert sealer.sealing_key("orders", rule, clock.now) is key
        await settle()
        assert slow.wraps == 1 + TRIES
        slow.failure = None
        assert sealer.sealing_key("orders", rule, clock.now) is key
        await settle()
        assert slow.wraps == 1 + TRIES
        clock.now += LONGEST_PAUSE_SECONDS
        assert sealer.sealing_key("orders", rule, clock.now) is key
        await settle()
        clock.now += 200
        assert sealer.sealing_key("orders", rule, clock.now) is key

    async def test_is_one_for_all_topics_of_a_key(self, sealer, slow, rule, clock, settle):
        topics = [f"t{number}" for number in range(10)]
        for topic in topics:
            await sealer.renew(topic, rule)
        assert slow.wraps == 10
        clock.now += 250
        for topic in topics:
            assert sealer.sealing_key(topic, rule, clock.now)
        await settle()
        assert slow.wraps == 11

    async def test_of_another_key_ends_alone(self, sealer, slow, rule, make_rule, clock, path, settle):
        await sealer.renew("orders", rule)
        await sealer.renew("eu", make_rule("eu"))
        change_key_file(path, lambda content: replace(content, keys=content.keys[:1]))
        clock.now += LOOK_SECONDS
        assert await sealer.renew("orders", rule)
        with pytest.raises(KeyDenied, match="has no key eu"):
            await sealer.renew("eu", make_rule("eu"))
        assert sealer.sealing_key("orders", rule, clock.now)

    async def test_names_the_version_that_seals(self, sealer, slow, rule, clock, path):
        """A key service rotates without telling: the next renewal finds out."""
        slow.refresh = lambda: False
        first = await sealer.renew("orders", rule)
        change_key_file(path, lambda content: rotate_key(content, "default"))
        slow._inner.refresh()
        clock.now += 300
        second = await sealer.renew("orders", rule)
        assert (first.block.version, second.block.version) == ("1", "2")


async def test_ten_minutes_with_ten_topics_are_few_calls(slow, rule, clock, settle):
    ring = key_file_ring(slow, clock=clock)
    topics = [f"t{number}" for number in range(10)]
    for _ in range(600):
        for topic in topics:
            key = ring.sealing_key(topic, rule, clock.now) or await ring.renew(topic, rule)
            assert ring.opening_key(topic, key.kid, key.block, rule)
        await settle()
        clock.now += 1
    assert slow.wraps + slow.unwraps <= 13


async def test_one_who_hangs_up_does_not_fail_the_others(reader, slow, rule, settle):
    slow.gate.clear()
    first, second = (asyncio.create_task(reader.renew("orders", rule)) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    slow.gate.set()
    assert (await second).topic == "orders"
    assert first.cancelled()


async def test_a_failure_that_nobody_waits_for_is_silent(reader, slow, rule, settle):
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    slow.gate.clear()
    slow.failure = KeyUnavailable("down")
    lonely = asyncio.create_task(reader.renew("orders", rule))
    await settle()
    lonely.cancel()
    await settle()
    slow.gate.set()
    await settle()
    # asyncio complains when the task goes, and whatever still points at it keeps it.
    slow.failure = lonely = None
    gc.collect()
    assert complaints == []
