"""Calls to a key service that is slow, down, or answers nonsense."""

import asyncio

import pytest
from structlog.testing import capture_logs

from kveil.proxy.admin.metrics import Metrics
from kveil.proxy.keys.breaker import FAILURES, LONGEST_PAUSE_SECONDS
from kveil.proxy.keys.calls import SLOTS, TRIES, KeyCalls
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeyUnavailable
from kveil.proxy.keys.provider import KeyContext

CONTEXT = KeyContext("test", "orders", bytes(16))
SECRET = bytes(range(32))


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def calls(slow, metrics, clock):
    return KeyCalls(slow, 5, metrics, clock)


def wrap(calls: KeyCalls):
    return calls.wrap("default", SECRET, CONTEXT)


async def test_an_answer_is_passed_on(calls, metrics):
    block = await wrap(calls)
    assert await calls.unwrap(block, CONTEXT) == SECRET
    assert (await calls.describe("default")).primary == "1"
    assert dict(metrics.key_calls) == {("keyfile", operation, "ok"): 1 for operation in ("wrap", "unwrap", "describe")}


async def test_a_failure_by_chance_is_not_noticed(calls, slow, monkeypatch):
    failures = iter([KeyUnavailable("reset"), None])

    async def flaky():
        if failure := next(failures):
            raise failure

    monkeypatch.setattr(slow, "_pass", flaky)
    assert await wrap(calls)
    assert slow.wraps == 2


async def test_a_service_that_is_down_is_left_alone_for_a_while(calls, slow, clock):
    slow.failure = KeyUnavailable("connection reset")
    with pytest.raises(KeyUnavailable, match="connection reset"):
        await wrap(calls)
    assert slow.wraps == TRIES == FAILURES
    with pytest.raises(KeyUnavailable, match="asked again in a few seconds"):
        await wrap(calls)
    assert slow.wraps == TRIES
    slow.failure = None
    clock.now += LONGEST_PAUSE_SECONDS
    assert await wrap(calls)


async def test_unwraps_that_fail_stop_no_wraps(calls, slow):
    block = await wrap(calls)
    slow.failure = KeyUnavailable("down")
    with pytest.raises(KeyUnavailable):
        await calls.unwrap(block, CONTEXT)
    slow.failure = None
    assert await wrap(calls)
    with pytest.raises(KeyUnavailable, match="asked again"):
        await calls.unwrap(block, CONTEXT)


@pytest.mark.parametrize("error", [KeyRefused("no"), KeyDenied("no")])
async def test_a_no_is_an_answer(calls, slow, error, metrics):
    slow.failure = error
    for _ in range(FAILURES * 3):
        with pytest.raises(type(error), match="no"):
            await wrap(calls)
    assert slow.wraps == FAILURES * 3
    slow.failure = None
    assert await wrap(calls)


async def test_a_slow_service_has_a_deadline(slow, metrics):
    calls = KeyCalls(slow, 0.01, metrics)
    slow.gate.clear()
    with pytest.raises(KeyUnavailable, match=r"keyfile at .* didn't answer within 0.01 s"):
        await wrap(calls)
    assert slow.wraps == TRIES


async def test_so_many_calls_at_a_time_and_the_others_find_out_with_them(calls, slow, settle):
    slow.gate.clear()
    waiting = [asyncio.create_task(wrap(calls)) for _ in range(SLOTS * 4)]
    await settle()
    assert slow.wraps == SLOTS
    slow.failure = KeyUnavailable("down")
    slow.gate.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, KeyUnavailable) for one in found)
    assert slow.wraps < SLOTS * 2  # those that waited didn't try for themselves


async def test_an_error_that_nobody_foresaw_shows_its_type_only(calls, slow):
    slow.failure = RuntimeError("the token is hvs.secret")
    with capture_logs() as lines, pytest.raises(KeyUnavailable, match="failed with RuntimeError") as caught:
        await wrap(calls)
    assert "hvs.secret" not in repr(lines) + repr(caught.value)
    assert caught.value.__suppress_context__


async def test_what_is_logged_and_counted(calls, slow, clock, metrics):
    slow.failure = KeyUnavailable("connection reset")
    with capture_logs() as lines:
        with pytest.raises(KeyUnavailable):
            await wrap(calls)
        clock.now += LONGEST_PAUSE_SECONDS
        slow.failure = None
        await wrap(calls)
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("key_service_failed", "warning"),
        ("key_service_down", "error"),
        ("key_service_back", "info"),
    ]
    assert {(line["service"], line["operation"]) for line in lines} == {("keyfile", "wrap")}
    assert metrics.samples()['kveil_key_calls_total{service="keyfile",operation="wrap",outcome="unavailable"}'] == TRIES
    assert metrics.samples()['kveil_key_calls_total{service="keyfile",operation="wrap",outcome="ok"}'] == 1


async def test_one_who_gives_up_ends_its_call(calls, slow, settle):
    slow.gate.clear()
    waiting = [asyncio.create_task(wrap(calls)) for _ in range(SLOTS)]
    await settle()
    for task in waiting:
        task.cancel()
    await settle()
    slow.gate.set()
    assert await wrap(calls)  # all slots are free again
