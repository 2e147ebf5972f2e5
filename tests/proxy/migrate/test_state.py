"""How far a copy is, in the metadata of its offsets."""

import pytest

from kveil.proxy.migrate.errors import MigrateError
from kveil.proxy.migrate.state import PartitionState, name_of, read_states

STATE = PartitionState(
    source_id="ab" * 16, dest_id="cd" * 16, start=3, first=0, position=12, records=7, producers=(4, 9)
)


def test_it_comes_back_as_it_was_committed():
    assert read_states({4: STATE.committed}, "g") == {4: STATE}


def test_of_a_cluster_without_topic_ids():
    state = PartitionState(source_id="", dest_id="", start=0, first=0, position=0)
    assert read_states({0: state.committed}, "g") == {0: state}


def test_it_moves():
    moved = STATE.moved(20, 5)
    assert (moved.position, moved.records, moved.start) == (20, 12, 3)


def test_it_knows_who_has_copied():
    assert STATE.with_producer(9) == STATE
    assert STATE.with_producer(11).producers == (4, 9, 11)


def test_it_is_short_enough_for_every_broker():
    """offset.metadata.max.bytes is 4096 by default."""
    assert len(STATE.moved(2**62, 2**62).metadata) < 200


@pytest.mark.parametrize(
    "metadata",
    ["", "x", "2 a b 0 0 0 -", "1 a b 0 0 -", "1 a b 0 0 x -", "1 a b 0 0 -1 -", "1 a b 0 0 0 x", "1 a b 0 0 0 1,"],
)
def test_what_somebody_else_has_committed_is_refused(metadata):
    with pytest.raises(MigrateError, match="somebody else"):
        read_states({0: (12, metadata)}, "g")


def test_each_copy_has_its_name():
    assert name_of("a", "b") == "kveil-migrate.a.b"
