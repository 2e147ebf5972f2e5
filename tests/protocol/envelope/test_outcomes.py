"""How transactions ended: what is shown against what is said, in any order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kveil.protocol.envelope.outcomes import MAX_RANGES, LaneEnd, Outcomes
from kveil.protocol.envelope.stream import Kind
from kveil.protocol.envelope.stream_run import MAX_LANES

KID = bytes(16)


def show(known, batch, committed, *, lane=1):
    return known.show(KID, lane, batch, 100 + batch, committed=committed)


def say(known, first, last, committed, *, lane=1):
    return known.say(LaneEnd(KID, lane, first, last, committed))


def test_what_was_shown_is_found_when_it_is_said():
    known = Outcomes()
    for batch in range(1, 9):
        assert show(known, batch, batch in {3, 4, 7}) == []
    (one, other) = say(known, 2, 7, committed=False)
    assert one == (Kind.OUTCOME, KID, 1, 3, 4, 108)
    assert (other.first, other.last) == (7, 7)
    assert say(known, 2, 7, committed=False) == [], "once"
    assert known.is_known(KID, 1, 2) is known.is_known(KID, 1, 7) is False
    assert known.is_known(KID, 1, 1) is known.is_known(KID, 1, 8) is known.is_known(KID, 2, 2) is None


def test_what_was_said_is_known_when_it_is_shown():
    known = Outcomes()
    assert say(known, 1, 5, committed=True) == []
    assert known.is_known(KID, 1, 5) is True
    assert show(known, 5, committed=True) == []


@pytest.mark.parametrize("committed", [True, False])
def test_what_is_shown_so_and_so(committed):
    known = Outcomes()
    show(known, 1, committed)
    assert [found.kind for found in show(known, 1, not committed)] == [Kind.OUTCOME]
    assert show(known, 1, not committed) == [], "once"
    assert say(known, 1, 1, committed) != [], "the second one was the lie"


def test_what_it_costs():
    """And that nothing is found by what was forgotten."""
    known = Outcomes()
    for batch in range(1, 1_000, 2):
        show(known, batch, committed=True)
        say(known, batch, batch, committed=True, lane=2)
    assert len(say(known, 1, 1_000, committed=False)) == MAX_RANGES
    assert known.is_known(KID, 2, 1) is None
    assert known.is_known(KID, 2, 999)
    for lane in range(3, 3 + MAX_LANES):
        show(known, 1, committed=True, lane=lane)
    assert known.is_known(KID, 2, 999) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 12)), max_size=40))
def test_honest_brokers_are_never_blamed(steps):
    """In whatever order batches of fixed ends are shown and said."""
    ends = [batch * 7 % 3 > 0 for batch in range(20)]
    known = Outcomes()
    for is_said, batch in steps:
        found = say(known, batch, batch, ends[batch]) if is_said else show(known, batch, ends[batch])
        assert found == []
        assert known.is_known(KID, 1, batch) in {None, ends[batch]}
