"""The key ring: renewals, limits, caches, refusals, and what a broker could try with them."""

import asyncio
import dataclasses

import pytest
from structlog.testing import capture_logs

from kveil.protocol.envelope.key_schedule import EpochKey, derive_kid
from kveil.proxy.config import Limits
from kveil.proxy.keys import sealing
from kveil.proxy.keys.errors import KeyRefused, KeyUnavailable
from kveil.proxy.keys.keyfile import add_key, rotate_key
from kveil.proxy.keys.keyfile_store import change_key_file
from kveil.proxy.keys.providers.keyfile import KeyFileProvider
from kveil.proxy.keys.ring import LOOK_SECONDS, KeyRing

HOUR = 3600


class Slow:
    """A provider over another one that waits for a gate, counts calls, and fails when told to."""

    def __init__(self, inner: KeyFileProvider) -> None:
        self._inner = inner
        self.gate = asyncio.Event()
        self.gate.set()
        self.wraps = 0
        self.unwraps = 0
        self.failure: Exception | None = None
        self.answer: bytes | None = None

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    async def _pass(self) -> None:
        await self.gate.wait()
        if self.failure:
            raise self.failure

    async def wrap(self, *args):
        self.wraps += 1
        await self._pass()
        return await self._inner.wrap(*args)

    async def unwrap(self, *args):
        self.unwraps += 1
        await self._pass()
        return self.answer if self.answer is not None else await self._inner.unwrap(*args)


@pytest.fixture
def slow(provider):
    return Slow(provider)


@pytest.fixture
def reader(slow, clock):
    """A ring that has sealed nothing itself, over a provider that counts."""
    return KeyRing(slow, Limits(opened_keys=3), clock)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


# Sealing


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
    assert ring.sealing_key("orders", rule, clock.now) is first
    clock.now += 1
    assert ring.sealing_key("orders", rule, clock.now) is None
    second = await ring.renew("orders", rule)
    assert second.kid != first.kid
    assert ring.sealing_key("orders", rule, clock.now) is second


async def test_the_age_can_be_lowered(provider, rule, clock):
    ring = KeyRing(provider, Limits(epoch_key_hours=0.5), clock)
    await ring.renew("orders", rule)
    assert ring.sealing_key("orders", rule, clock.now + HOUR / 2 - 1)
    assert ring.sealing_key("orders", rule, clock.now + HOUR / 2) is None


async def test_the_age_counts_from_before_a_slow_call(reader, slow, rule, clock):
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
    ring.reload()
    assert ring.sealing_key("orders", rule, clock.now) is key


async def test_a_reload_notices_a_rotation_at_once(ring, rule, clock, path):
    await ring.renew("orders", rule)
    change_key_file(path, lambda content: rotate_key(content, "default"))
    ring.reload()
    assert ring.sealing_key("orders", rule, clock.now) is None


async def test_a_bad_new_file_stops_no_sealing(ring, rule, clock, path):
    key = await ring.renew("orders", rule)
    path.write_bytes(b"half of a fi")
    clock.now += LOOK_SECONDS
    with capture_logs() as lines:
        assert ring.sealing_key("orders", rule, clock.now) is key
        assert (await ring.renew("other", rule)).block.version == "1"
    assert [line["event"] for line in lines if line["event"] != "audit"] == ["keys_reload_refused"]


async def test_a_key_that_was_added_is_found(ring, make_rule, path):
    with pytest.raises(KeyUnavailable, match="kveil keys add us"):
        await ring.renew("orders", make_rule("us"))
    change_key_file(path, lambda content: add_key(content, "us"))
    assert (await ring.renew("orders", make_rule("us"))).block.name == "us"


async def test_many_who_need_the_same_key_make_one_call(reader, slow, rule):
    slow.gate.clear()
    waiting = [asyncio.create_task(reader.renew("orders", rule)) for _ in range(50)]
    await settle()
    slow.gate.set()
    keys = await asyncio.gather(*waiting)
    assert slow.wraps == 1
    assert all(key is keys[0] for key in keys)


async def test_other_topics_do_not_wait(reader, slow, rule):
    slow.gate.clear()
    waiting = [asyncio.create_task(reader.renew(topic, rule)) for topic in ("a", "b")]
    await settle()
    assert slow.wraps == 2
    slow.gate.set()
    await asyncio.gather(*waiting)


async def test_a_failed_call_fails_all_who_wait_and_the_next_tries_again(reader, slow, rule):
    slow.gate.clear()
    slow.failure = KeyUnavailable("down")
    waiting = [asyncio.create_task(reader.renew("orders", rule)) for _ in range(3)]
    await settle()
    slow.gate.set()
    assert [str(found) for found in await asyncio.gather(*waiting, return_exceptions=True)] == ["down"] * 3
    slow.failure = None
    assert await reader.renew("orders", rule)
    assert slow.wraps == 2


async def test_one_who_hangs_up_does_not_fail_the_others(reader, slow, rule):
    slow.gate.clear()
    first, second = (asyncio.create_task(reader.renew("orders", rule)) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    slow.gate.set()
    assert (await second).topic == "orders"
    assert first.cancelled()


async def test_a_failure_that_nobody_waits_for_is_silent(reader, slow, rule, recwarn):
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
    import gc

    gc.collect()
    assert complaints == []


# Opening


async def test_a_reader_unwraps_once_and_then_has_the_key(ring, reader, slow, rule):
    sealed = await ring.renew("orders", rule)
    assert reader.opening_key("orders", sealed.kid, sealed.block, rule) is None
    opened = await reader.unwrap("orders", sealed.kid, sealed.block, rule)
    assert opened.secret == sealed.secret
    assert reader.opening_key("orders", sealed.kid, sealed.block, rule) is opened
    assert await reader.unwrap("orders", sealed.kid, sealed.block, rule) is opened
    assert slow.unwraps == 1


async def test_what_was_sealed_here_opens_here_without_a_call(reader, slow, rule):
    key = await reader.renew("orders", rule)
    assert reader.opening_key("orders", key.kid, key.block, rule) is key
    assert slow.unwraps == 0


async def test_many_readers_of_one_key_make_one_call(ring, reader, slow, rule):
    sealed = await ring.renew("orders", rule)
    slow.gate.clear()
    waiting = [asyncio.create_task(reader.unwrap("orders", sealed.kid, sealed.block, rule)) for _ in range(20)]
    await settle()
    slow.gate.set()
    await asyncio.gather(*waiting)
    assert slow.unwraps == 1


async def test_old_versions_open_after_a_rotation(ring, reader, rule, path):
    sealed = await ring.renew("orders", rule)
    change_key_file(path, lambda content: rotate_key(content, "default"))
    assert await reader.unwrap("orders", sealed.kid, sealed.block, rule)


async def test_a_reader_takes_up_a_rotation_when_it_meets_it(ring, reader, rule, path):
    change_key_file(path, lambda content: rotate_key(content, "default"))
    sealed = await ring.renew("orders", rule)
    assert sealed.block.version == "2"
    assert await reader.unwrap("orders", sealed.kid, sealed.block, rule)


async def test_a_key_that_the_rule_does_not_list_is_refused_before_any_call(ring, reader, slow, rule, make_rule):
    sealed = await ring.renew("orders", make_rule("eu"))
    with pytest.raises(KeyRefused, match="'eu' of provider 1 is not among"):
        reader.opening_key("orders", sealed.kid, sealed.block, rule)
    with pytest.raises(KeyRefused, match="not among"):
        await reader.unwrap("orders", sealed.kid, sealed.block, rule)
    assert slow.unwraps == 0
    assert await reader.unwrap("orders", sealed.kid, sealed.block, make_rule("default", "eu"))


async def test_the_rule_is_asked_on_cache_hits_too(ring, reader, rule, make_rule):
    sealed = await ring.renew("orders", make_rule("eu"))
    await reader.unwrap("orders", sealed.kid, sealed.block, make_rule("eu"))
    with pytest.raises(KeyRefused, match="not among"):
        reader.opening_key("orders", sealed.kid, sealed.block, rule)


async def test_a_listed_name_over_another_key_s_kid_gets_nothing_from_the_cache(ring, reader, rule, make_rule):
    sealed = await ring.renew("orders", make_rule("eu"))
    await reader.unwrap("orders", sealed.kid, sealed.block, make_rule("eu"))
    forged = dataclasses.replace(sealed.block, name="default")
    assert reader.opening_key("orders", sealed.kid, forged, rule) is None
    with pytest.raises(KeyRefused, match="does not open"):
        await reader.unwrap("orders", sealed.kid, forged, rule)


async def test_another_provider_of_the_same_name_is_refused(ring, reader, rule):
    sealed = await ring.renew("orders", rule)
    with pytest.raises(KeyRefused, match="provider 7"):
        reader.opening_key("orders", sealed.kid, dataclasses.replace(sealed.block, provider=7), rule)


async def test_a_batch_of_another_topic_does_not_open(ring, reader, rule):
    sealed = await ring.renew("orders", rule)
    with pytest.raises(KeyRefused):
        await reader.unwrap("copy", sealed.kid, sealed.block, rule)


async def test_the_refusal_of_a_copy_does_not_touch_the_original(ring, reader, rule):
    sealed = await ring.renew("orders", rule)
    with pytest.raises(KeyRefused):
        await reader.unwrap("copy", sealed.kid, sealed.block, rule)
    assert reader.opening_key("orders", sealed.kid, sealed.block, rule) is None
    assert await reader.unwrap("orders", sealed.kid, sealed.block, rule)


async def test_a_mirrored_topic_opens_as_its_origin(ring, reader, rule, make_rule):
    sealed = await ring.renew("orders", rule)
    mirror = make_rule(sealed_as="orders")
    opened = await reader.unwrap("mirror", sealed.kid, sealed.block, mirror)
    assert opened.topic == "orders"
    assert reader.opening_key("mirror", sealed.kid, sealed.block, mirror) is opened
    assert reader.opening_key("orders", sealed.kid, sealed.block, mirror) is opened


async def test_a_refusal_is_remembered_for_a_short_time(ring, reader, slow, rule, clock):
    sealed = await ring.renew("orders", rule)
    forged = dataclasses.replace(sealed.block, version="9")
    for _ in range(5):
        with pytest.raises(KeyRefused, match="version '9'"):
            await reader.unwrap("orders", sealed.kid, forged, rule)
        with pytest.raises(KeyRefused, match="version '9'"):
            reader.opening_key("orders", sealed.kid, forged, rule)
    assert slow.unwraps == 1
    clock.now += Limits().refused_key_seconds
    assert reader.opening_key("orders", sealed.kid, forged, rule) is None
    with pytest.raises(KeyRefused):
        await reader.unwrap("orders", sealed.kid, forged, rule)
    assert slow.unwraps == 2


async def test_a_changed_key_file_gives_refused_keys_another_chance(ring, reader, rule, make_rule, path):
    add = make_rule("us")
    original = path.read_bytes()
    change_key_file(path, lambda content: add_key(content, "us"))
    sealed = await ring.renew("orders", add)
    added = path.read_bytes()
    path.write_bytes(original)
    with pytest.raises(KeyRefused, match="no key 'us'"):
        await reader.unwrap("orders", sealed.kid, sealed.block, add)
    path.write_bytes(added)
    reader.reload()
    assert reader.opening_key("orders", sealed.kid, sealed.block, add) is None
    assert await reader.unwrap("orders", sealed.kid, sealed.block, add)


async def test_an_outage_is_not_remembered(ring, reader, slow, rule):
    sealed = await ring.renew("orders", rule)
    slow.failure = KeyUnavailable("down")
    with pytest.raises(KeyUnavailable, match="down"):
        await reader.unwrap("orders", sealed.kid, sealed.block, rule)
    slow.failure = None
    assert reader.opening_key("orders", sealed.kid, sealed.block, rule) is None
    assert await reader.unwrap("orders", sealed.kid, sealed.block, rule)


@pytest.mark.parametrize("answer", [bytes(32), b"", bytes(31), bytes(33), bytes(64)])
async def test_a_provider_that_answers_with_another_key_is_refused(ring, reader, slow, rule, answer):
    sealed = await ring.renew("orders", rule)
    slow.answer = answer
    with pytest.raises(KeyRefused, match="not the epoch key that the envelope names"):
        await reader.unwrap("orders", sealed.kid, sealed.block, rule)


async def test_the_cache_drops_what_was_not_used_for_longest(reader, slow, ring, rule):
    keys: list[EpochKey] = [await ring.renew(f"t{number}", rule) for number in range(4)]
    for key in keys[:3]:
        await reader.unwrap(key.topic, key.kid, key.block, rule)
    assert reader.opening_key("t0", keys[0].kid, keys[0].block, rule)
    await reader.unwrap("t3", keys[3].kid, keys[3].block, rule)
    known = [reader.opening_key(key.topic, key.kid, key.block, rule) is not None for key in keys]
    assert known == [True, False, True, True]


async def test_invented_kids_push_no_good_key_out(ring, reader, slow, rule):
    sealed = await ring.renew("orders", rule)
    await reader.unwrap("orders", sealed.kid, sealed.block, rule)
    for number in range(50):
        with pytest.raises(KeyRefused):
            await reader.unwrap("orders", number.to_bytes(16, "big"), sealed.block, rule)
    assert reader.opening_key("orders", sealed.kid, sealed.block, rule)


async def test_what_happens_to_keys_is_audited(ring, reader, rule):
    with capture_logs() as lines:
        sealed = await ring.renew("orders", rule)
        await reader.unwrap("orders", sealed.kid, sealed.block, rule)
        with pytest.raises(KeyRefused):
            await reader.unwrap("copy", sealed.kid, sealed.block, rule)
        with pytest.raises(KeyRefused):
            await reader.unwrap("copy", sealed.kid, sealed.block, rule)
    events = [line["cloudevent"] for line in lines]
    assert [(event["type"], event["subject"]) for event in events] == [
        ("io.kveil.key.created", "orders"),
        ("io.kveil.key.unwrapped", "orders"),
        ("io.kveil.key.refused", "copy"),
    ]
    assert all(event["data"]["kid"] == sealed.kid.hex() for event in events)
    assert sealed.secret.hex() not in repr(lines)
    assert repr(sealed.block.wrapped) not in repr(lines)


async def test_the_ring_names_its_realm_and_provider(ring, provider):
    assert ring.realm == "test"
    assert ring.provider is provider
