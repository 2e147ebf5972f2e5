"""The reader's side of stream positions: no honest history is suspected, each attack is seen."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kveil.protocol.envelope import stream as stream_module
from kveil.protocol.envelope import stream_run
from kveil.protocol.envelope.position import Position
from kveil.protocol.envelope.seen import Seen
from kveil.protocol.envelope.stream import Kind, Stream
from tests.protocol.envelope.stream_model import Model

STEPS = ["send"] * 4 + ["arrive"] * 4 + ["fail", "answer", "answer", "marker", "read", "read", "read", "seek"]
STEPS += ["retain", "restart", "beacon", "wait", "compact"]
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
        rare = {"restart", "retain", "compact"}
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
            for name, value in {"MAX_LANES": 2, "WINDOW": 2, "MAX_MISSING": 1, "MAX_SKIPPED": 1}.items():
                patch.setattr(stream_run, name, value)
            patch.setattr(stream_module, "MAX_LANES", 2)
            model = run(Model(record_mode=record_mode, readers=3), taken)
        assert model.findings == []


def history(seed, *, record_mode=False, steps=200):
    """An honest log with everything answered at its end, and nobody has read it."""
    chosen = random.Random(seed)
    model = Model(record_mode=record_mode, readers=1)
    for _ in range(steps):
        name = chosen.choice(["send", "send", "arrive", "arrive", "answer", "fail", "marker"])
        model.step(name, chosen.randrange(50), chosen.randrange(200))
    for writer in model.writers:
        for _ in range(3):  # so that something comes behind, with what is acknowledged by then
            while writer.sent or writer.unanswered:
                at = model.writers.index(writer)
                model.arrive(at, 1)
                model.answer(at, 0)
            model.send(model.writers.index(writer), 1)
    return model


def batches_of(model):
    return [each for each in model.log if each.position is not None]


def lane_of(each):
    return each.kid, each.position.lane


def same_lane(model, each):
    return [other for other in batches_of(model) if lane_of(other) == lane_of(each)]


def renumber(model):
    """Offsets without holes, as a broker gives them."""
    model.end = model.start
    for each in model.log:
        each.offset, model.end = model.end, model.end + each.size


def copy_of(each, **changes):
    made = type(each)(**{name: getattr(each, name) for name in each.__dataclass_fields__})
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def first_refusal(model):
    return next(each for each in model.findings if each.kind.is_refusal)


seeds = st.integers(0, 10_000)
attack = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class TestAttacks:
    @attack
    @given(seeds, st.data(), st.booleans())
    def test_replay(self, seed, data, record_mode):
        model = history(seed, record_mode=record_mode)
        at = data.draw(st.sampled_from([place for place, each in enumerate(model.log) if each.position]))
        to = data.draw(st.integers(at + 1, len(model.log)))
        again = copy_of(model.log[at])
        model.log.insert(to, again)
        renumber(model)
        model.read_at(0, len(model.log))
        found = first_refusal(model)
        assert found.kind is Kind.REPLAY
        assert (found.offset, found.first) == (again.offset, again.position.batch)

    @attack
    @given(seeds, st.data(), st.booleans())
    def test_reorder(self, seed, data, record_mode):
        model = history(seed, record_mode=record_mode)
        at = data.draw(st.sampled_from(batches_of(model)))
        following = [each for each in same_lane(model, at) if each.offset > at.offset][:3]
        if not following:
            return
        other = data.draw(st.sampled_from(following))
        one, two = model.log.index(at), model.log.index(other)
        model.log[one], model.log[two] = other, at
        renumber(model)
        model.read_at(0, len(model.log))
        found = first_refusal(model)
        assert found.kind in {Kind.REORDER, Kind.REPLAY}
        assert other.offset < found.offset <= at.offset

    @attack
    @given(seeds, st.data(), st.booleans(), st.booleans())
    def test_drop(self, seed, data, refuse_gaps, from_the_start):
        model = history(seed)
        model.stream = Stream(refuse_gaps=refuse_gaps)
        skipped = {
            (each.kid, each.position.lane, number)
            for each in batches_of(model)
            for first, last in each.position.skipped
            for number in range(first, last + 1)
        }
        vouched = [
            each
            for each in batches_of(model)
            if (*lane_of(each), each.position.batch) not in skipped
            and same_lane(model, each)[-1].position.acknowledged >= each.position.batch
            and (from_the_start or each is not same_lane(model, each)[0])
        ]
        if not vouched:
            return
        dropped = data.draw(st.sampled_from(vouched))
        if not from_the_start:
            model.log, model.start = model.log[model.log.index(same_lane(model, dropped)[0]) :], None
            model.start = model.places[0] = model.log[0].offset
        model.log.remove(dropped)
        model.read_at(0, len(model.log))
        gaps = [each for each in model.findings if each.kind is Kind.GAP]
        number = dropped.position.batch
        assert [(each.kid, each.lane) for each in gaps] == [lane_of(dropped)] * len(gaps)
        lost = {each for gap in gaps for each in range(gap.first, gap.last + 1)}
        assert number in lost  # and with it what it alone said was skipped
        assert all((*lane_of(dropped), each) in skipped for each in lost - {number})
        assert all(not each.kind.is_refusal for each in model.findings)
        if refuse_gaps:  # it stays refused, whoever reads it
            model.findings.clear()
            model.places[0] = gaps[0].offset
            model.read_at(0, len(model.log))
            assert model.findings == gaps

    @attack
    @given(seeds, st.data())
    def test_fork(self, seed, data):
        """Two processes that were made of one, say: the same number, other content."""
        model = history(seed)
        numbers = {(*lane_of(each), each.position.batch): each for each in batches_of(model)}
        pairs = [
            (each, after)
            for each in batches_of(model)
            if (after := numbers.get((*lane_of(each), each.position.batch + 1)))
        ]
        one, after = data.draw(st.sampled_from(pairs))
        model.log[model.log.index(one)] = copy_of(one, digest=bytes(16))
        model.read_at(0, len(model.log))
        found = first_refusal(model)
        assert (found.kind, found.offset) == (Kind.FORK, after.offset)

    @attack
    @given(seeds, st.data(), st.booleans())
    def test_another_history_for_another_reader(self, seed, data, record_mode):
        model = history(seed, record_mode=record_mode)
        model.read_at(0, len(model.log))
        assert model.findings == []
        late = batches_of(model)[-3:]
        one = data.draw(st.sampled_from(late))
        model.log[model.log.index(one)] = copy_of(one, digest=bytes(16))
        model.places[0] = 0
        model.read_at(0, len(model.log))
        found = first_refusal(model)
        assert (found.kind, found.offset) == (Kind.FORK, one.offset)

    @attack
    @given(seeds, st.data(), st.booleans())
    def test_replay_to_a_reader_elsewhere(self, seed, data, record_mode):
        """One reads the end; another the start, to which the broker shows a batch of the end."""
        model = history(seed, record_mode=record_mode)
        found = batches_of(model)
        middle = found[len(found) // 2]
        model.places[0] = middle.offset
        model.read_at(0, len(model.log))
        known = {lane_of(each) for each in found if each.offset < middle.offset}
        late = data.draw(st.sampled_from([each for each in found if each.offset >= middle.offset]))
        earlier = [each for each in found if each.offset < middle.offset and lane_of(each) in known]
        place = data.draw(st.sampled_from(earlier))
        model.log[model.log.index(place)] = copy_of(late, offset=place.offset, size=place.size)
        model.places[0] = 0
        model.read_at(0, len(model.log))
        assert first_refusal(model).offset == place.offset

    @attack
    @given(seeds, st.data(), st.integers(1, 8))
    def test_withheld_tail(self, seed, data, most):
        model = history(seed)
        ends = [
            each
            for each in batches_of(model)
            if any(
                w.kid == each.kid
                and w.lane.number == each.position.lane
                and w.lane.acknowledged_batch == each.position.batch
                for w in model.writers
            )
        ]
        last = data.draw(st.sampled_from(ends))
        held_back = model.log[model.log.index(last) :]
        model.log, model.end = model.log[: -len(held_back)], last.offset
        model.read_all(most=most)
        assert model.findings == []
        model.beacon(0, 0)
        model.read_at(0, 1)
        assert model.findings == []  # it may be on its way
        model.now += 5
        model.read_at(0, 1)
        assert {each.kind for each in model.findings} == {Kind.WITHHELD}
        expected = {(*lane_of(each), each.position.batch) for each in ends if each in held_back}
        assert {(each.kid, each.lane, each.last) for each in model.findings} == expected
        model.findings.clear()
        model.beacon(0, 0)
        model.now += 10
        model.read_at(0, 1)
        assert model.findings == []  # said once

    def test_a_lane_withheld_from_a_reader_that_began_at_the_end(self):
        """Within 65 s of its first acknowledged batch, if the reader has been there for as long."""
        model = Model(lanes=1, readers=1)
        model.send(0, 0)
        model.arrive(0, 1)
        model.places[0] = model.end
        model.read_at(0, 1)
        model.now += 66
        model.beacon(0, 0)
        model.now += 6
        model.read_at(0, 1)  # what was before it isn't held back from it
        model.send(0, 0)
        model.arrive(0, 1)
        del model.log[-1]
        model.end -= 1
        model.now += 54
        model.beacon(0, 0)
        model.now += 5
        model.read_at(0, 1)
        assert [(each.kind, each.first, each.last) for each in model.findings] == [(Kind.WITHHELD, 2, 2)]


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

    def test_runs_beyond_the_limit_are_forgotten(self):
        stream = Stream()
        for number in range(1, 30):
            assert stream.read(10 * number, 10 * number + 1, [seen(number, 10 * number)], 0) == []
        assert len(stream._runs) == len(stream._used) == stream_module.MAX_RUNS
