"""When calls go out, and when not."""

import pytest

from kveil.proxy.keys.breaker import FAILURES, LONGEST_PAUSE_SECONDS, Breaker


@pytest.fixture
def breaker(clock):
    return Breaker(clock, chance=lambda: 1.0)


def fail(breaker: Breaker, times: int = FAILURES) -> list[bool]:
    return [breaker.failed() for _ in range(times)]


def test_a_few_failures_change_nothing(breaker):
    assert fail(breaker, FAILURES - 1) == [False] * (FAILURES - 1)
    assert breaker.admits()
    breaker.succeeded()
    assert fail(breaker, FAILURES - 1) == [False] * (FAILURES - 1)
    assert breaker.admits()


def test_failures_in_a_row_stop_all_calls_for_a_pause(breaker, clock):
    assert fail(breaker) == [False, False, True]
    assert not breaker.admits()
    clock.now += 0.99
    assert not breaker.admits()
    clock.now += 0.01
    assert breaker.admits()


def test_after_a_pause_one_goes_first(breaker, clock):
    fail(breaker)
    clock.now += 1
    assert [breaker.admits() for _ in range(5)] == [True, False, False, False, False]
    assert breaker.succeeded()
    assert all(breaker.admits() for _ in range(5))
    assert not breaker.succeeded()


def test_one_who_went_first_and_never_came_back_holds_up_nobody_for_ever(breaker, clock):
    fail(breaker)
    clock.now += 1
    assert breaker.admits()
    clock.now += LONGEST_PAUSE_SECONDS
    assert breaker.admits()


def test_pauses_double_up_to_the_longest(breaker, clock):
    fail(breaker)
    pauses = []
    for _ in range(8):
        began = clock.now
        while not breaker.admits():
            clock.now += 0.25
        pauses.append(clock.now - began)
        assert breaker.failed() is False  # it was down already
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


def test_chance_spreads_the_proxies_over_half_a_pause(clock):
    early = Breaker(clock, chance=lambda: 0.0)
    fail(early)
    clock.now += 0.5
    assert early.admits()


def test_a_service_that_is_back_is_found_within_half_a_minute(breaker, clock):
    fail(breaker)
    for _ in range(100):  # down for long
        clock.now += 1
        if breaker.admits():
            breaker.failed()
    back = clock.now
    while not breaker.admits():
        clock.now += 0.5
    assert clock.now - back <= 30
