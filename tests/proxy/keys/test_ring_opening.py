"""The key ring opens: caches, refusals, and what a broker could try with them."""

import asyncio

import pytest
from structlog.testing import capture_logs

from kveil.protocol.envelope.key_schedule import EpochKey
from kveil.proxy.config import Limits
from kveil.proxy.keys.breaker import LONGEST_PAUSE_SECONDS
from kveil.proxy.keys.calls import SLOTS
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeyUnavailable
from kveil.proxy.keys.keyfile import add_key, rotate_key
from kveil.proxy.keys.keyfile_store import change_key_file
from kveil.proxy.keys.opened import REFUSALS_PER_PARTITION
from tests.support.key_rings import key_file_ring


async def test_a_reader_unwraps_once_and_then_has_the_key(ring, reader, slow, rule):
    sealed = await ring.renew("orders", rule)
    assert reader.opening_key("orders", sealed.kid, sealed.block, rule) is None
    opened = await reader.unwrap("orders", 0, sealed.kid, sealed.block, rule)
    assert opened.secret == sealed.secret
    assert reader.opening_key("orders", sealed.kid, sealed.block, rule) is opened
    assert await reader.unwrap("orders", 0, sealed.kid, sealed.block, rule) is opened
    assert slow.unwraps == 1


async def test_what_was_sealed_here_opens_here_without_a_call(reader, slow, rule):
    key = await reader.renew("orders", rule)
    assert reader.opening_key("orders", key.kid, key.block, rule) is key
    assert slow.unwraps == 0


async def test_many_readers_of_one_key_make_one_call(ring, reader, slow, rule, settle):
    sealed = await ring.renew("orders", rule)
    slow.gate.clear()
    waiting = [asyncio.create_task(reader.unwrap("orders", 0, sealed.kid, sealed.block, rule)) for _ in range(20)]
    await settle()
    slow.gate.set()
    await asyncio.gather(*waiting)
    assert slow.unwraps == 1


async def test_old_versions_open_after_a_rotation(ring, reader, rule, path):
    sealed = await ring.renew("orders", rule)
    change_key_file(path, lambda content: rotate_key(content, "default"))
    assert await reader.unwrap("orders", 0, sealed.kid, sealed.block, rule)


async def test_a_reader_takes_up_a_rotation_when_it_meets_it(ring, reader, rule, path):
    change_key_file(path, lambda content: rotate_key(content, "default"))
    sealed = await ring.renew("orders", rule)
    assert sealed.block.version == "2"
    assert await reader.unwrap("orders", 0, sealed.kid, sealed.block, rule)


async def test_a_key_that_the_rule_does_not_list_is_refused_before_any_call(ring, reader, slow, rule, make_rule):
    sealed = await ring.renew("orders", make_rule("eu"))
    with pytest.raises(KeyRefused, match="'eu' of provider 1 is not among"):
        reader.opening_key("orders", sealed.kid, sealed.block, rule)
    with pytest.raises(KeyRefused, match="not among"):
        await reader.unwrap("orders", 0, sealed.kid, sealed.block, rule)
    assert slow.unwraps == 0
    assert await reader.unwrap("orders", 0, sealed.kid, sealed.block, make_rule("default", "eu"))


async def test_the_rule_is_asked_on_cache_hits_too(ring, reader, rule, make_rule):
    sealed = await ring.renew("orders", make_rule("eu"))
    await reader.unwrap("orders", 0, sealed.kid, sealed.block, make_rule("eu"))
    with pytest.raises(KeyRefused, match="not among"):
        reader.opening_key("orders", sealed.kid, sealed.block, rule)


async def test_a_listed_name_over_another_key_s_kid_gets_nothing_from_the_cache(ring, reader, rule, make_rule):
    sealed = await ring.renew("orders", make_rule("eu"))
    await reader.unwrap("orders", 0, sealed.kid, sealed.block, make_rule("eu"))
    forged = sealed.block._replace(name="default")
    assert reader.opening_key("orders", sealed.kid, forged, rule) is None
    with pytest.raises(KeyRefused, match="does not open"):
        await reader.unwrap("orders", 0, sealed.kid, forged, rule)


async def test_another_provider_of_the_same_name_is_refused(ring, reader, rule):
    sealed = await ring.renew("orders", rule)
    with pytest.raises(KeyRefused, match="provider 7"):
        reader.opening_key("orders", sealed.kid, sealed.block._replace(provider=7), rule)


async def test_a_batch_of_another_topic_does_not_open(ring, reader, rule):
    sealed = await ring.renew("orders", rule)
    with pytest.raises(KeyRefused):
        await reader.unwrap("copy", 0, sealed.kid, sealed.block, rule)


async def test_the_refusal_of_a_copy_does_not_touch_the_original(ring, reader, rule):
    sealed = await ring.renew("orders", rule)
    with pytest.raises(KeyRefused):
        await reader.unwrap("copy", 0, sealed.kid, sealed.block, rule)
    assert reader.opening_key("orders", sealed.kid, sealed.block, rule) is None
    assert await reader.unwrap("orders", 0, sealed.kid, sealed.block, rule)


async def test_a_mirrored_topic_opens_as_its_origin(ring, reader, rule, make_rule):
    sealed = await ring.renew("orders", rule)
    mirror = make_rule(sealed_as="orders")
    opened = await reader.unwrap("mirror", 0, sealed.kid, sealed.block, mirror)
    assert opened.topic == "orders"
    assert reader.opening_key("mirror", sealed.kid, sealed.block, mirror) is opened
    assert reader.opening_key("orders", sealed.kid, sealed.block, mirror) is opened


async def test_a_refusal_is_remembered_for_a_short_time(ring, reader, slow, rule, clock):
    sealed = await ring.renew("orders", rule)
    forged = sealed.block._replace(version="9")
    for _ in range(5):
        with pytest.raises(KeyRefused, match="version '9'"):
            await reader.unwrap("orders", 0, sealed.kid, forged, rule)
        with pytest.raises(KeyRefused, match="version '9'"):
            reader.opening_key("orders", sealed.kid, forged, rule)
    assert slow.unwraps == 1
    clock.now += Limits().refused_key_seconds
    assert reader.opening_key("orders", sealed.kid, forged, rule) is None
    with pytest.raises(KeyRefused):
        await reader.unwrap("orders", 0, sealed.kid, forged, rule)
    assert slow.unwraps == 2


async def test_a_changed_key_file_gives_refused_keys_another_chance(ring, reader, rule, make_rule, path):
    add = make_rule("us")
    original = path.read_bytes()
    change_key_file(path, lambda content: add_key(content, "us"))
    sealed = await ring.renew("orders", add)
    added = path.read_bytes()
    path.write_bytes(original)
    with pytest.raises(KeyDenied, match="no key us"):
        await reader.unwrap("orders", 0, sealed.kid, sealed.block, add)
    path.write_bytes(added)
    reader.reload()
    assert reader.opening_key("orders", sealed.kid, sealed.block, add) is None
    assert await reader.unwrap("orders", 0, sealed.kid, sealed.block, add)


async def test_an_outage_is_not_remembered(ring, reader, slow, rule, clock):
    sealed = await ring.renew("orders", rule)
    slow.failure = KeyUnavailable("down")
    with pytest.raises(KeyUnavailable, match="down"):
        await reader.unwrap("orders", 0, sealed.kid, sealed.block, rule)
    slow.failure = None
    clock.now += LONGEST_PAUSE_SECONDS
    assert reader.opening_key("orders", sealed.kid, sealed.block, rule) is None
    assert await reader.unwrap("orders", 0, sealed.kid, sealed.block, rule)


@pytest.mark.parametrize("answer", [bytes(32), b"", bytes(31), bytes(33), bytes(64)])
async def test_a_provider_that_answers_with_another_key_is_refused(ring, reader, slow, rule, answer):
    sealed = await ring.renew("orders", rule)
    slow.answer = answer
    with pytest.raises(KeyRefused, match="not the epoch key that the envelope names"):
        await reader.unwrap("orders", 0, sealed.kid, sealed.block, rule)


async def test_the_cache_drops_what_was_not_used_for_longest(reader, slow, ring, rule):
    keys: list[EpochKey] = [await ring.renew(f"t{number}", rule) for number in range(4)]
    for key in keys[:3]:
        await reader.unwrap(key.topic, 0, key.kid, key.block, rule)
    assert reader.opening_key("t0", keys[0].kid, keys[0].block, rule)
    await reader.unwrap("t3", 0, keys[3].kid, keys[3].block, rule)
    known = [reader.opening_key(key.topic, key.kid, key.block, rule) is not None for key in keys]
    assert known == [True, False, True, True]


async def test_invented_kids_push_no_good_key_out(ring, reader, slow, rule):
    sealed = await ring.renew("orders", rule)
    await reader.unwrap("orders", 0, sealed.kid, sealed.block, rule)
    for number in range(50):
        with pytest.raises(KeyRefused):
            await reader.unwrap("orders", number, number.to_bytes(16, "big"), sealed.block, rule)
    assert reader.opening_key("orders", sealed.kid, sealed.block, rule)


async def test_invented_kids_of_one_partition_stop_costing_calls(ring, reader, slow, rule, clock):
    sealed = await ring.renew("orders", rule)
    invented = (number.to_bytes(16, "big") for number in range(1000))
    for _ in range(REFUSALS_PER_PARTITION):
        with pytest.raises(KeyRefused):
            await reader.unwrap("orders", 3, next(invented), sealed.block, rule)
    assert slow.unwraps == REFUSALS_PER_PARTITION
    for _ in range(100):
        with pytest.raises(KeyUnavailable, match="orders/3"):  # not for ever: a good one may be among them
            await reader.unwrap("orders", 3, next(invented), sealed.block, rule)
    assert slow.unwraps == REFUSALS_PER_PARTITION
    assert await reader.unwrap("orders", 4, sealed.kid, sealed.block, rule)  # nobody else is held up
    assert reader.opening_key("orders", sealed.kid, sealed.block, rule)  # and what is known opens there too
    clock.now += Limits().refused_key_seconds
    with pytest.raises(KeyRefused):
        await reader.unwrap("orders", 3, next(invented), sealed.block, rule)


async def test_invented_kids_stop_no_sealing(ring, reader, slow, rule, settle):
    sealed = await ring.renew("orders", rule)
    slow.gate.clear()
    waiting = [
        asyncio.create_task(reader.unwrap("orders", number, number.to_bytes(16, "big"), sealed.block, rule))
        for number in range(200)
    ]
    await settle()
    assert slow.unwraps == SLOTS
    slow.gate.set()
    assert await reader.renew("orders", rule)  # has slots of its own
    assert all(isinstance(found, KeyRefused) for found in await asyncio.gather(*waiting, return_exceptions=True))


async def test_an_opened_key_is_asked_for_again_after_its_time(ring, slow, rule, clock):
    reader = key_file_ring(slow, clock=clock, unwrap_cache_seconds=60)
    sealed = await ring.renew("orders", rule)
    asked = (sealed.kid, sealed.block, rule)
    await reader.unwrap("orders", 0, *asked)
    clock.now += 59.9
    assert reader.opening_key("orders", *asked)
    clock.now += 0.1
    assert reader.opening_key("orders", *asked) is None
    slow.failure = KeyDenied("default is disabled")
    with pytest.raises(KeyDenied, match="disabled"):
        await reader.unwrap("orders", 0, *asked)
    with pytest.raises(KeyDenied, match="disabled"):
        reader.opening_key("orders", *asked)


async def test_what_a_process_sealed_itself_opens_for_no_longer(slow, rule, clock):
    both = key_file_ring(slow, clock=clock, unwrap_cache_seconds=60)
    sealed = await both.renew("orders", rule)
    assert both.opening_key("orders", sealed.kid, sealed.block, rule)
    clock.now += 60
    assert both.opening_key("orders", sealed.kid, sealed.block, rule) is None


async def test_an_outage_stops_nothing_that_is_known(ring, reader, slow, rule, clock):
    sealed = await ring.renew("orders", rule)
    await reader.unwrap("orders", 0, sealed.kid, sealed.block, rule)
    slow.failure = KeyUnavailable("down")
    clock.now += 3599
    assert reader.opening_key("orders", sealed.kid, sealed.block, rule)


async def test_what_happens_to_keys_is_audited(ring, reader, rule):
    with capture_logs() as lines:
        sealed = await ring.renew("orders", rule)
        await reader.unwrap("orders", 0, sealed.kid, sealed.block, rule)
        with pytest.raises(KeyRefused):
            await reader.unwrap("copy", 0, sealed.kid, sealed.block, rule)
        with pytest.raises(KeyRefused):
            await reader.unwrap("copy", 0, sealed.kid, sealed.block, rule)
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
    assert ring.providers == {1: provider}
