"""What a broker may do to a log, and that a reader of stream positions sees it. `stream_model` makes the log."""

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kveil.protocol.envelope.stream import Kind, Stream
from tests.protocol.envelope.stream_model import Model


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
