"""The memory that large frames share: who may begin, who waits, and for whom."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kveil.proxy.budget import BufferBudget

TOTAL = 100


class Holder:
    """A connection's share, and how often it was told to go on."""

    def __init__(self, budget):
        self.granted = 0
        self.share = budget.share(self._go_on)

    def _go_on(self):
        self.granted += 1


@pytest.fixture
def budget():
    return BufferBudget(TOTAL)


@pytest.fixture
def holders(budget):
    return [Holder(budget) for _ in range(4)]


def ask(holder, size):
    """Whether the frame may be received at once."""
    holder.share.ask(size)
    return not holder.share.is_waiting


class TestRoom:
    def test_frames_begin_while_there_is_any(self, holders):
        one, two, three, _ = holders
        assert ask(one, 60)
        assert ask(two, 60), "the one that uses it up may overdraw it"
        assert not ask(three, 1)

    def test_one_that_is_larger_than_all_of_it_passes_alone(self, holders):
        one, two, _, _ = holders
        assert ask(one, 10 * TOTAL)
        assert not ask(two, 1)
        one.share.give_back(10 * TOTAL)
        assert two.granted == 1

    def test_what_is_given_back_lets_the_next_one_go_on(self, holders):
        one, two, three, _ = holders
        assert ask(one, 60)
        assert ask(two, 60)
        assert not ask(three, 30)
        one.share.give_back(60)
        assert three.granted == 1
        assert not three.share.is_waiting

    def test_not_before_the_overdraft_is_made_up(self, holders):
        one, two, three, _ = holders
        assert ask(one, 10)
        assert ask(two, 3 * TOTAL)
        assert not ask(three, 1)
        one.share.give_back(10)
        assert three.granted == 0
        two.share.give_back(3 * TOTAL)
        assert three.granted == 1

    def test_first_come_first_served(self, holders):
        one, two, three, four = holders
        assert ask(one, TOTAL)
        assert not ask(two, TOTAL)
        assert not ask(three, 1)
        one.share.give_back(TOTAL)
        assert [each.granted for each in holders] == [0, 1, 0, 0], "a small one doesn't overtake"
        assert not ask(four, 1)
        two.share.give_back(TOTAL)
        assert [each.granted for each in holders] == [0, 1, 1, 1]


class TestConnections:
    def test_one_that_holds_some_gets_more_at_once(self, holders):
        """Its other direction may depend on it: two frames that wait for each other would wait for ever."""
        one, two, _, _ = holders
        assert ask(one, TOTAL)
        assert not ask(two, 1)
        assert ask(one, TOTAL)

    def test_both_directions_are_granted_together(self, holders):
        one, two, _, _ = holders
        assert ask(one, TOTAL)
        assert not ask(two, 10)
        assert not ask(two, 20)
        one.share.give_back(TOTAL)
        assert two.granted == 1
        assert not two.share.is_waiting
        two.share.give_back(10)
        two.share.give_back(20)
        assert not two.share.is_used

    def test_one_that_ends_while_it_waits(self, holders):
        one, two, three, _ = holders
        assert ask(one, TOTAL)
        assert not ask(two, 10)
        assert not ask(three, 10)
        two.share.give_back(10)
        assert not two.share.is_used
        one.share.give_back(TOTAL)
        assert [each.granted for each in holders] == [0, 0, 1, 0]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2 * TOTAL)), max_size=60))
def test_nothing_is_lost_or_forgotten(steps):
    """0 gives back the oldest frame of the connection; at the end all of it is there again."""
    budget = BufferBudget(TOTAL)
    holders = [Holder(budget) for _ in range(4)]
    frames = [[] for _ in holders]
    for place, size in steps:
        share = holders[place].share
        if size:
            share.ask(size)
            frames[place].append(size)
        elif frames[place]:
            share.give_back(frames[place].pop(0))
        charged = sum(sum(own) for own, each in zip(frames, holders, strict=True) if not each.share.is_waiting)
        waiting = [each for each in holders if each.share.is_waiting]
        assert not waiting or charged >= TOTAL, "there is room, and somebody waits"
    for own, each in zip(frames, holders, strict=True):
        for size in own:
            each.share.give_back(size)
    assert not any(each.share.is_used for each in holders)
    assert ask(holders[0], TOTAL - 1)
    assert ask(holders[1], 1)
    assert not ask(holders[2], 1)
