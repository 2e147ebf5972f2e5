"""The reader's side of stream positions: its rules, and that no honest history is suspected."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kveil.protocol.envelope import stream as stream_module
from kveil.protocol.envelope import stream_lane, stream_run
from kveil.protocol.envelope.position import Position
from kveil.protocol.envelope.seen import Seen
from kveil.protocol.envelope.stream import Kind, Leader, Stream
from tests.protocol.envelope.stream_model import Model

STEPS = ["send"] * 4 + ["arrive"] * 4 + ["fail", "answer", "answer", "marker", "read", "read", "read", "seek"]
STEPS += ["retain", "restart", "beacon", "wait", "compact", "acquire", "elect"]
steps = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 20), st.integers(0, 40)), max_size=80)
thorough = settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def run(model, taken):
    for name, a, b in taken:
        model.step(name, a, b)
    return model


class TestHonest:
    @thorough
    @given(steps, st.booleans())
    def test_nothing_is_suspected(self, taken, record_mode):
        model = run(Model(record_mode=record_mode), taken)
        assert model.findings == []

    @pytest.mark.parametrize("record_mode", [False, True])
    @pytest.mark.parametrize("seed", range(8))
    def test_nothing_is_suspected_in_long_histories(self, seed, record_mode):
        chosen = random.Random(seed)
        model = Model(record_mode=record_mode, readers=3, lanes=4)
        rare = {"restart", "retain", "compact", "acquire"}
        for _ in range(3000):
            name = chosen.choice(STEPS)
            if name not in rare or chosen.random() < 0.05:
                model.step(name, chosen.randrange(50), chosen.randrange(200))
        model.read_all()
        assert model.findings == []

    @thorough
    @given(steps, st.booleans())
    def test_nor_by_what_was_forgotten(self, taken, record_mode):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stream_module, "MAX_RUNS", 2)
            patch.setattr(stream_run, "MAX_LANES", 2)
            for name, value in {"WINDOW": 2, "MAX_MISSING": 1, "MAX_SKIPPED": 1}.items():
                patch.setattr(stream_lane, name, value)
            patch.setattr(stream_module, "MAX_LANES", 2)
            model = run(Model(record_mode=record_mode, readers=3), taken)
        assert model.findings == []


KID = bytes(16)


def digest(number, of=b""):
    return (b"%d" % number + of).ljust(16, b".")


def seen(number, offset, *, acknowledged=None, skipped=(), made=None, previous=None):
    before = bytes(16) if number == 1 else digest(number - 1)
    position = Position(
        7, number, number - 1, previous or before, number - 1 if acknowledged is None else acknowledged, skipped
    )
    return Seen(KID, position, offset, made or digest(number))


class TestRules:
    def kinds(self, *batches, stream=None):
        """What is found in batches that are read one after the other."""
        found = (stream or Stream()).read(batches[0].offset, batches[-1].offset + 1, batches, 0)
        return [(each.kind, each.first, each.last, each.offset) for each in found]

    def test_a_hole_that_nobody_read_is_none(self):
        stream = Stream()
        assert stream.read(0, 1, [seen(1, 0)], 0) == stream.read(5, 6, [seen(6, 5)], 0) == []
        assert self.kinds(seen(2, 1), seen(3, 2), seen(4, 3), seen(5, 4), stream=stream) == []

    def test_a_hole_is_one_when_all_around_it_was_read(self):
        stream = Stream()
        stream.read(0, 1, [seen(1, 0)], 0)
        stream.read(5, 6, [seen(6, 5)], 0)
        assert self.kinds(seen(2, 1), seen(3, 2), stream=stream) == []
        found = stream.read(3, 5, [], 0)
        assert [(each.kind, each.first, each.last, each.offset) for each in found] == [(Kind.GAP, 4, 5, 5)]

    def test_what_runs_say_of_each_other_is_checked_when_they_meet(self):
        stream = Stream()
        assert self.kinds(seen(3, 2, previous=digest(9)), seen(4, 3), stream=stream) == []
        assert stream.read(0, 1, [seen(1, 0)], 0) == []
        for _ in range(2):
            found = stream.read(1, 4, [seen(2, 1), seen(3, 2, previous=digest(9))], 0)
            assert [(each.kind, each.first, each.offset) for each in found] == [(Kind.FORK, 3, 2)]

    def test_a_refused_gap_between_runs_stays_one(self):
        stream = Stream(refuse_gaps=True)
        assert stream.read(3, 4, [seen(4, 3)], 0) == stream.read(0, 1, [seen(1, 0)], 0) == []
        for start, batches in [(1, [seen(2, 1), seen(5, 4)]), (3, [seen(4, 3), seen(5, 4)]), (3, [seen(4, 3)])]:
            found = stream.read(start, 5, batches, 0)
            assert [(each.kind, each.first, each.last, each.offset) for each in found] == [(Kind.GAP, 3, 3, 3)]
        stream.note_heads([(KID, 7, 4)], 0)
        assert stream.at_end(4, 10) == []  # the end that it was read up to has it

    def test_an_old_batch_among_forgotten_ones(self):
        stream = Stream()
        batches = [seen(number, number - 1) for number in range(1, 41)]
        assert self.kinds(*batches, stream=stream) == []
        assert self.kinds(*batches, stream=stream) == []
        assert self.kinds(seen(40, 2), stream=stream) == [(Kind.REPLAY, 40, 40, 2)]

    def test_forgotten_ones_between_two_runs(self):
        """The log was cut back, so that fewer are remembered than there is room for."""
        stream = Stream()
        late = [seen(number, number - 1) for number in range(4, 41)]
        assert self.kinds(*late, stream=stream) == []
        stream.cut(36)
        assert self.kinds(*[seen(number, number - 1) for number in (1, 2, 3)], *late[:30], stream=stream) == []
        assert self.kinds(*late[:30], stream=stream) == []

    def test_nor_one_that_is_explained_there(self):
        stream = Stream()
        stream.read(0, 1, [seen(1, 0)], 0)
        stream.read(5, 6, [seen(6, 5, skipped=((4, 5),))], 0)
        stream.read(1, 3, [seen(2, 1), seen(3, 2)], 0)
        assert stream.read(3, 5, [], 0) == []

    def test_what_isnt_acknowledged_may_be_missing_until_it_is(self):
        assert self.kinds(seen(1, 0), seen(3, 1, acknowledged=1)) == []
        assert self.kinds(seen(1, 0), seen(3, 1, acknowledged=1), seen(4, 2, acknowledged=3)) == [(Kind.GAP, 2, 2, 2)]
        assert (
            self.kinds(
                seen(1, 0), seen(3, 1, acknowledged=1), seen(4, 2, acknowledged=1, skipped=((2, 2),)), seen(5, 3)
            )
            == []
        )

    def test_what_was_missing_and_comes_late_is_refused(self):
        found = self.kinds(seen(1, 0), seen(3, 1, acknowledged=1), seen(2, 2, acknowledged=1), seen(4, 3))
        assert found == [(Kind.REORDER, 2, 2, 2)]  # and nothing behind it was looked at

    def test_the_same_again_from_the_same_offset(self):
        stream = Stream()
        batches = seen(1, 0), seen(2, 1), seen(3, 2)
        for _ in range(3):
            assert self.kinds(*batches, stream=stream) == []
        assert self.kinds(seen(2, 2), stream=stream) == [(Kind.FORK, 2, 2, 2)]
        assert self.kinds(seen(2, 1, made=digest(9)), stream=stream) == [(Kind.FORK, 2, 2, 1)]
        assert self.kinds(seen(2, 3), stream=stream) == [(Kind.REPLAY, 2, 2, 3)]

    def test_what_is_refused_changes_nothing(self):
        stream = Stream()
        assert self.kinds(seen(1, 0), seen(2, 1), stream=stream) == []
        for _ in range(2):
            assert self.kinds(seen(1, 2), stream=stream) == [(Kind.REPLAY, 1, 1, 2)]
        assert self.kinds(seen(3, 2), stream=stream) == []

    def test_a_log_that_was_cut_back(self):
        """After an unclean election. What was acknowledged is lost, which is said."""
        stream = Stream()
        assert self.kinds(seen(1, 0), seen(2, 1), seen(3, 2, acknowledged=1), stream=stream) == []
        stream.cut(2)
        assert self.kinds(seen(3, 2, acknowledged=1, made=digest(3)), stream=stream) == []
        stream.cut(1)
        assert self.kinds(seen(4, 1), stream=stream) == [(Kind.GAP, 2, 3, 1)]

    def test_a_cut_takes_back_what_a_beacon_made_sure_of(self):
        """What it named and was there may be lost with the rest, which is said."""
        stream = Stream()
        assert self.kinds(seen(1, 0), seen(2, 1), stream=stream) == []
        stream.note_heads([(KID, 7, 2)], 0)
        assert stream.at_end(2, 10) == []
        stream.cut(1)
        assert [(each.kind, each.first, each.last) for each in stream.at_end(1, 11)] == [(Kind.WITHHELD, 2, 2)]

    def test_the_first_of_a_lane_where_the_log_begins_later(self):
        assert self.kinds(seen(4, 10)) == []
        assert self.kinds(seen(4, 0)) == [(Kind.GAP, 1, 3, 0)]
        assert Stream().read(0, 1, [seen(4, 0)], 0, growth_only=True) == []

    def test_batches_that_a_share_group_gives_out_one_by_one(self):
        stream = Stream()
        for number in (1, 3, 7, 12):
            assert stream.read(2 * number, 2 * number + 1, [seen(number, 2 * number)], 0) == []

    def test_lanes_beyond_the_limit_are_forgotten_and_not_suspected(self):
        stream = Stream()
        lanes = [seen(1, offset)._replace(kid=b"%16d" % offset) for offset in range(300)]
        assert stream.read(0, 300, lanes, 0) == []
        assert sum(len(run.lanes) for run in stream._runs) == stream_run.MAX_LANES
        assert stream.read(0, 300, lanes, 0) == []
        assert stream.read(300, 301, [seen(5, 300)._replace(kid=lanes[0].kid)], 0) == []
        assert len(stream.read(301, 302, [seen(5, 301)._replace(kid=lanes[299].kid)], 0)) == 1

    def test_a_forgotten_lane_is_not_withheld(self, monkeypatch):
        monkeypatch.setattr(stream_run, "MAX_LANES", 1)
        stream = Stream()
        stream.read(0, 1, [seen(1, 0)], 0)
        stream.note_heads([(KID, 7, 1)], 0)
        assert stream.at_end(1, 10) == []
        assert stream.read(1, 3, [seen(2, 1), seen(1, 2)._replace(kid=b"another lane....")], 20) == []
        stream.note_heads([(KID, 7, 2)], 60)
        assert stream.at_end(3, 70) == []

    def test_a_beacon_that_was_made_before_the_reader_began(self):
        """What it doesn't name yet may still lie before the reader's start."""
        stream = Stream()
        stream.read(9, 9, [], 0)
        stream.note_heads([(KID, 7, 3)], 1)
        assert stream.at_end(9, 7) == []
        stream.note_heads([(KID, 7, 5)], 61)
        assert stream.at_end(9, 67) == []

    def test_runs_beyond_the_limit_are_forgotten(self):
        stream = Stream()
        for number in range(1, 30):
            assert stream.read(10 * number, 10 * number + 1, [seen(number, 10 * number)], 0) == []
        assert len(stream._runs) == len(stream._used) == stream_module.MAX_RUNS


class TestLeaders:
    """A log that was cut back has another leader's batches where it was read before."""

    def read(self, stream, *batches, epoch=3):
        """What is found in batches that are read one after the other, all of one leader."""
        found = []
        for each in batches:
            found += stream.read(each.offset, each.offset + 1, [each], 0, leader=Leader(each.offset, epoch))
        return [(each.kind, each.first, each.last, each.offset) for each in found]

    def stream(self, *batches, **options):
        """One that has read these under leader 3."""
        made = Stream(**options)
        assert self.read(made, *batches) == []
        return made

    def test_a_later_one_may_have_another_history(self):
        stream = self.stream(seen(1, 0), seen(2, 1), seen(3, 2))
        found = self.read(stream, seen(3, 1, acknowledged=1), seen(4, 2), epoch=4)
        assert found == [(Kind.CUT, 0, 0, 1), (Kind.GAP, 2, 2, 2)]
        assert self.read(stream, seen(3, 1, acknowledged=1), seen(4, 2), epoch=4) == [], "once"

    @pytest.mark.parametrize("epoch", [3, 2])
    def test_no_other_may(self, epoch):
        stream = self.stream(seen(1, 0), seen(2, 1), seen(3, 2))
        for _ in range(2):
            assert self.read(stream, seen(2, 1, made=digest(9)), epoch=epoch) == [(Kind.FORK, 2, 2, 1)]

    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_nothing_is_repeated_behind_the_end_for_it(self, number):
        stream = self.stream(seen(1, 0), seen(2, 1), seen(3, 2))
        assert self.read(stream, seen(number, 3), epoch=4) == [(Kind.REPLAY, number, number, 3)]

    def test_nor_what_stands_before_the_cut(self):
        stream = self.stream(seen(1, 0), seen(2, 1), seen(3, 2))
        assert self.read(stream, seen(1, 2), epoch=4) == [(Kind.CUT, 0, 0, 2), (Kind.REPLAY, 1, 1, 2)]

    def test_leaders_that_change_are_nothing_to_tell(self):
        stream = self.stream(seen(1, 0))
        second, third = (seen(2, 1), seen(3, 2)), (seen(4, 5), seen(5, 6))
        assert self.read(stream, *third, epoch=9) == self.read(stream, *second, epoch=4) == []
        for _ in range(2):
            assert self.read(stream, seen(1, 0)) == self.read(stream, *second, epoch=4) == []
            assert stream.read(3, 6, [third[0]], 0, leader=Leader(5, 9)) == []
            assert self.read(stream, *third, epoch=9) == []

    def test_a_hole_of_the_log_cleaner_has_no_leader_of_its_own(self):
        stream = self.stream(seen(1, 0))
        for start in (1, 1, 4, 0):
            assert stream.read(start, 10, [seen(2, 8)], 0, growth_only=True, leader=Leader(8, 5)) == []

    def test_one_reader_has_gone_on_and_another_one_comes_after(self):
        stream = self.stream(seen(1, 0), seen(2, 1), seen(3, 2, acknowledged=1))
        assert self.read(stream, seen(6, 3, skipped=((2, 5),)), epoch=5) == []
        assert self.read(stream, seen(4, 1, acknowledged=1), epoch=5) == [(Kind.CUT, 0, 0, 1)]

    def test_a_batch_that_reaches_into_what_was_read(self):
        stream = self.stream(seen(5, 4), seen(6, 5))
        found = stream.read(2, 8, [seen(7, 2)], 0, leader=Leader(2, 4))
        assert [(each.kind, each.offset) for each in found] == [(Kind.CUT, 2)]

    def test_it_is_no_gap_by_itself(self):
        stream = self.stream(seen(1, 0), seen(2, 1, acknowledged=0), refuse_gaps=True)
        assert self.read(stream, seen(3, 1, acknowledged=1, skipped=((2, 2),)), epoch=4) == [(Kind.CUT, 0, 0, 1)]
        assert self.read(stream, seen(4, 2), epoch=4) == [], "it was taken"

    def test_the_oldest_are_forgotten_and_nothing_is_claimed_of_them(self, monkeypatch):
        monkeypatch.setattr(stream_run, "MAX_LEADERS", 2)
        stream = Stream()
        for number in range(1, 6):
            assert self.read(stream, seen(number, number - 1), epoch=number) == []
        assert self.read(stream, seen(1, 0, made=digest(9)), epoch=7) == [(Kind.FORK, 1, 1, 0)]
        assert self.read(stream, seen(4, 3), epoch=7) == [(Kind.CUT, 0, 0, 3)]


class TestRemade:
    def test_what_stood_in_the_other_topic_is_not_missing(self):
        stream = Stream(is_remade=True)
        stream.note_heads([(KID, 7, 4), (b"another kid.....", 1, 9)], 0)
        assert stream.read(0, 1, [seen(5, 0)], 0) == []
        assert stream.at_end(1, 10) == []

    def test_what_is_missing_in_this_one_is(self):
        stream = Stream(is_remade=True)
        found = stream.read(0, 2, [seen(5, 0), seen(8, 1)], 0)
        assert [(each.kind, each.first, each.last) for each in found] == [(Kind.GAP, 6, 7)]
        stream.note_heads([(KID, 7, 9)], 0)
        assert [(each.kind, each.first) for each in stream.at_end(2, 10)] == [(Kind.WITHHELD, 9)]
