"""The writer's side of stream positions: what it says stays true."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kveil.protocol.envelope import lane as lane_module
from kveil.protocol.envelope.lane import Lane
from kveil.protocol.envelope.position import Position


def put(lane, records=1):
    """The next batch, sealed."""
    slot = lane.next(records)
    slot.digest = b"%016d" % slot.position.batch
    lane.sealed(slot)
    return slot.position


def test_counts_batches_and_records():
    lane = Lane(5)
    assert put(lane, 3) == Position(5, 1, 0)
    assert put(lane, 2) == Position(5, 2, 3, b"%016d" % 1)
    assert put(lane) == Position(5, 3, 5, b"%016d" % 2)


def test_a_slot_may_be_asked_for_again_until_a_batch_is_sealed_there():
    lane = Lane(0)
    first, again = lane.next(1), lane.next(4)
    assert first.position == again.position
    with pytest.raises(ValueError, match="slot"):
        lane.sealed(first)  # nothing is sealed at it
    first.digest = again.digest = bytes(16)
    lane.sealed(again)
    with pytest.raises(ValueError, match="slot"):
        lane.sealed(first)
    assert lane.next(1).position.record == 4


def test_acknowledged_is_where_nothing_before_it_is_open():
    lane = Lane(0)
    for _ in range(4):
        put(lane)
    lane.acknowledged(2)
    assert lane.acknowledged_batch == 0
    lane.acknowledged(1)
    assert lane.acknowledged_batch == 2
    lane.acknowledged(4)
    assert lane.acknowledged_batch == 2
    lane.skipped(3)
    assert lane.acknowledged_batch == 4
    assert put(lane)[4:] == (4, ((3, 3),))


def test_the_highest_may_be_skipped_and_isnt_acknowledged_then():
    lane = Lane(0)
    put(lane), put(lane)
    lane.acknowledged(1)
    lane.skipped(2)
    assert put(lane)[4:] == (1, ((2, 2),))


def test_skipped_ones_are_named_until_an_acknowledged_batch_names_them():
    lane = Lane(0)
    put(lane)
    lane.skipped(1)
    assert put(lane).skipped == put(lane).skipped == ((1, 1),)
    lane.skipped(2)
    assert put(lane).skipped == ((1, 2),)
    lane.acknowledged(3)  # names the first only
    assert put(lane).skipped == ((2, 2),)
    lane.acknowledged(4)
    assert put(lane).skipped == ()


def test_what_is_settled_stays_so():
    lane = Lane(0)
    put(lane), put(lane)
    lane.skipped(1)
    lane.acknowledged(1)
    lane.skipped(9)
    lane.acknowledged(2)
    lane.skipped(2)
    assert put(lane)[4:] == (2, ((1, 1),))


def test_nobody_waits_for_more_than_a_thousand():
    lane = Lane(0)
    for _ in range(lane_module.MAX_UNSETTLED + 3):
        put(lane)
    assert lane.next(1).position.skipped == ((1, 3),)
    lane.acknowledged(2)
    assert lane.acknowledged_batch == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("pas"), st.integers(0, 30)), max_size=120), st.integers(2, 40))
def test_every_position_can_be_written_and_none_claims_too_much(steps, most_unsettled):
    """Whoever knows all positions up to an acknowledged one knows of each batch below it that isn't vouched for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lane_module, "MAX_UNSETTLED", most_unsettled)
        patch.setattr(lane_module, "MAX_SKIPPED", 2)
        lane, stored, told = Lane(1), {}, []
        for name, number in steps:
            if name == "p":
                position = put(lane)
                assert Position.decode(position.encode()) == position
                told.append(position)
            elif name == "a" and told:
                batch = told[number % len(told)].batch
                was_open = batch in lane._unsettled
                lane.acknowledged(batch)
                stored[batch] = stored.get(batch) or was_open
            elif told:
                lane.skipped(told[number % len(told)].batch)
    vouched = {batch for batch, is_vouched in stored.items() if is_vouched}
    known_to_readers = [each for each in told if each.batch in vouched]
    for last, position in enumerate(known_to_readers):
        named = {
            number
            for each in known_to_readers[: last + 1]
            for first, end in each.skipped
            for number in range(first, end + 1)
        }
        assert set(range(1, position.acknowledged + 1)) <= vouched | named
