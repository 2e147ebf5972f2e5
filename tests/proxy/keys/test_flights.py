"""One call for many who need the same."""

import asyncio

import pytest

from kveil.proxy.keys.flights import Flights


class Calls:
    """Counts calls, and lets them end when told to."""

    def __init__(self) -> None:
        self.count = 0
        self.gate = asyncio.Event()

    async def __call__(self) -> int:
        self.count += 1
        number = self.count
        await self.gate.wait()
        return number


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_who_join_get_the_same_answer():
    flights: Flights[str, int] = Flights()
    calls = Calls()
    waiting = [asyncio.create_task(flights.join("a", calls)) for _ in range(5)]
    await settle()
    calls.gate.set()
    assert await asyncio.gather(*waiting) == [1] * 5


async def test_who_comes_later_starts_anew():
    flights: Flights[str, int] = Flights()
    calls = Calls()
    calls.gate.set()
    assert [await flights.join("a", calls), await flights.join("a", calls)] == [1, 2]


async def test_different_needs_make_different_calls():
    flights: Flights[str, int] = Flights()
    calls = Calls()
    waiting = [asyncio.create_task(flights.join(place, calls)) for place in "abab"]
    await settle()
    assert calls.count == 2
    calls.gate.set()
    assert await asyncio.gather(*waiting) == [1, 2, 1, 2]


async def test_nothing_is_kept_after_landing():
    flights: Flights[str, int] = Flights()
    calls = Calls()
    calls.gate.set()
    for place in "abc":
        await flights.join(place, calls)
    assert flights._tasks == {}


async def test_all_may_leave_and_the_call_still_ends():
    flights: Flights[str, int] = Flights()
    calls = Calls()
    waiting = [asyncio.create_task(flights.join("a", calls)) for _ in range(2)]
    await settle()
    for task in waiting:
        task.cancel()
    await settle()
    assert all(task.cancelled() for task in waiting)
    # Who comes now joins the call that is still under way.
    late = asyncio.create_task(flights.join("a", calls))
    calls.gate.set()
    assert await late == 1


async def test_a_cancelled_call_cancels_who_waits():
    flights: Flights[str, int] = Flights()
    calls = Calls()
    waiting = asyncio.create_task(flights.join("a", calls))
    await settle()
    flights._tasks["a"].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert flights._tasks == {}
