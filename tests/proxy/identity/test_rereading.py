"""How often a topic is read again."""

from itertools import pairwise

from kveil.proxy.identity.rereading import CALM_SECONDS, FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS, Rereading


def times(rereading, seconds, start=0):
    """When it is due for who wishes for it every second."""
    return [second for second in range(start, start + seconds) if rereading.is_due(second)]


def test_the_pauses_double_up_to_an_hour():
    found = times(Rereading(), 100_000)
    pauses = [later - earlier for earlier, later in pairwise(found)]
    assert pauses[:4] == [FIRST_PAUSE_SECONDS * 2**turn for turn in range(4)]
    assert max(pauses) == MOST_PAUSE_SECONDS
    assert len(found) < 40


def test_after_a_calm_time_it_is_done_at_once_and_soon_again():
    rereading = Rereading()
    last = times(rereading, 100)[-1]
    start = int(last + MOST_PAUSE_SECONDS + CALM_SECONDS)
    assert times(rereading, 10, start) == [start, start + FIRST_PAUSE_SECONDS]


def test_no_wish_comes_through_before_the_pause_is_over():
    rereading = Rereading()
    assert rereading.is_due(0)
    assert not rereading.is_due(FIRST_PAUSE_SECONDS - 1)
    assert rereading.is_due(FIRST_PAUSE_SECONDS)
