"""The key-hiding key: wrapped by a key service, unwrapped once, and nothing else taken for it."""

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from kveil.protocol.envelope.key_schedule import derive_hiding_key_id
from kveil.proxy.admin.metrics import Metrics
from kveil.proxy.keys.breaker import LONGEST_PAUSE_SECONDS
from kveil.proxy.keys.calls import KeyCalls
from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable
from kveil.proxy.keys.hiding import HidingKeys, unwrap_hiding_key, wrap_new_hiding_key
from kveil.proxy.keys.keyfile import HidingKey, WrappedHidingKey, destroy_key, rotate_key
from kveil.proxy.keys.keyfile_store import change_key_file
from kveil.proxy.keys.providers.keyfile import KeyFileProvider
from kveil.proxy.keys.realm import Realm

SECONDS = 10.0


@pytest.fixture
def calls(slow, clock):
    return KeyCalls(slow, 5.0, Metrics(), clock)


@pytest.fixture
async def wrapped(calls) -> WrappedHidingKey:
    return await wrap_new_hiding_key(calls, "default", "test")


@pytest.fixture
def hiding(calls, wrapped, clock) -> HidingKeys:
    return HidingKeys(Realm(name="test", hiding_key=wrapped), {1: calls}, SECONDS, clock)


async def test_what_is_wrapped_unwraps(calls, wrapped):
    found = await unwrap_hiding_key(calls, wrapped, "test")
    assert (found.id, found.created) == (wrapped.id, wrapped.created)
    assert derive_hiding_key_id(found.secret, realm="test") == found.id
    assert found.secret not in wrapped.block.wrapped


async def test_no_two_are_alike(calls):
    made = [await wrap_new_hiding_key(calls, "default", "test") for _ in range(10)]
    assert len({one.id for one in made}) == 10


async def test_another_keys_wrap_is_not_taken_for_it(calls, wrapped):
    """A file that was put together from two."""
    other = await wrap_new_hiding_key(calls, "default", "test")
    for wrong in (replace(wrapped, id=other.id), replace(wrapped, block=other.block)):
        with pytest.raises(KeyDenied, match="restore the key file"):
            await unwrap_hiding_key(calls, wrong, "test")


async def test_another_realms_is_not_taken_for_it(calls, wrapped):
    with pytest.raises(KeyDenied, match="not the key-hiding key of other"):
        await unwrap_hiding_key(calls, wrapped, "other")


@pytest.mark.parametrize("answer", [bytes(32), bytes(31), b""])
async def test_a_service_that_answers_with_something_else_is_not_believed(calls, slow, wrapped, answer):
    """Also where it binds nothing by itself: the id tells."""
    slow.answer = answer
    with pytest.raises(KeyDenied, match="never make a new one"):
        await unwrap_hiding_key(calls, wrapped, "test")


async def test_it_is_unwrapped_once_for_all_topics(hiding, slow, settle):
    assert hiding.find("orders") is None
    slow.gate.clear()
    waiting = [asyncio.create_task(hiding.unwrap()) for _ in range(5)]
    await settle()
    slow.gate.set()
    await asyncio.gather(*waiting)
    orders, bills = hiding.find("orders"), hiding.find("bills")
    assert orders is hiding.find("orders")
    assert orders.wire_key(b"k") != bills.wire_key(b"k")
    await hiding.unwrap()
    assert slow.unwraps == 1


async def test_every_process_hides_alike(hiding, calls, wrapped, clock):
    other = HidingKeys(Realm(name="test", hiding_key=wrapped), {1: calls}, SECONDS, clock)
    for each in (hiding, other):
        await each.unwrap()
    assert hiding.find("orders").wire_key(b"k") == other.find("orders").wire_key(b"k")


async def test_a_refusal_is_remembered_for_a_while(hiding, slow, clock, path):
    change_key_file(path, lambda content: destroy_key(content, "default"))
    slow.refresh()
    with capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(KeyDenied, match="has no key default"):
                await hiding.unwrap()
    (event,) = [line["cloudevent"] for line in lines if line["event"] == "audit"]
    assert (event["type"], event["subject"]) == ("io.kveil.key.refused", "test")
    assert slow.unwraps == 1
    clock.now += SECONDS
    with pytest.raises(KeyDenied):
        await hiding.unwrap()
    assert slow.unwraps == 2


async def test_an_outage_is_not_remembered(hiding, slow, clock):
    slow.failure = KeyUnavailable("down")
    with pytest.raises(KeyUnavailable):
        await hiding.unwrap()
    assert hiding.find("orders") is None
    slow.failure = None
    clock.now += LONGEST_PAUSE_SECONDS
    await hiding.unwrap()
    assert hiding.find("orders") is not None


async def test_a_key_files_own_needs_no_call(clock):
    made = HidingKey(id=bytes(16), created="", secret=bytes(32))
    hiding = HidingKeys(Realm(name="test", hiding_key=made), {}, SECONDS, clock)
    await hiding.unwrap()
    assert hiding.find("orders").id == bytes(16)


async def test_without_any_the_way_out_is_told(clock):
    hiding = HidingKeys(Realm(name="test", hiding_key=None), {}, SECONDS, clock)
    assert hiding.find("orders") is None
    with pytest.raises(KeyDenied, match="kveil keys init"):
        await hiding.unwrap()


async def test_a_key_that_was_rotated_since_still_unwraps_it(provider: KeyFileProvider, wrapped, path):
    change_key_file(path, lambda content: rotate_key(content, "default"))
    assert provider.refresh()
    assert (await unwrap_hiding_key(KeyCalls(provider, 5.0, Metrics()), wrapped, "test")).id == wrapped.id
