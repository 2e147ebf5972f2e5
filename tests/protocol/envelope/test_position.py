"""The codec of stream positions: strict both ways."""

import contextlib
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.envelope.position import MAX_SKIPPED, Position, coarser, with_range, without

FIRST = Position(0, 1, 0)
LATER = Position(7, 9, 20, bytes(range(16)), 5, ((2, 2), (4, 8)))
MOST = tuple((2 * number, 2 * number) for number in range(1, MAX_SKIPPED + 1))


@st.composite
def ranges(draw, most=8):
    """Ascending, with a hole between each two."""
    ends = draw(st.lists(st.integers(1, 400), min_size=0, max_size=2 * most, unique=True).map(sorted))
    made = [(first * 3, last * 3) for first, last in zip(ends[::2], ends[1::2], strict=False)]
    return tuple(made)


@st.composite
def positions(draw):
    skipped = draw(ranges())
    batch = draw(st.integers(max(2, skipped[-1][1] + 1 if skipped else 2), 2**62))
    previous = draw(st.binary(min_size=16, max_size=16))
    record = draw(st.integers(batch - 1, 2**62))
    return Position(draw(st.integers(0, 2**32 - 1)), batch, record, previous, draw(st.integers(0, batch - 1)), skipped)


@given(positions())
def test_both_ways(position):
    body = position.encode()
    assert len(body) == 46 + 16 * len(position.skipped)
    assert Position.decode(body) == position


@given(st.binary(min_size=30, max_size=80))
def test_noise_decodes_to_itself_or_is_refused(body):
    with contextlib.suppress(Unopenable):
        assert Position.decode(body).encode() == body


@pytest.mark.parametrize("position", [FIRST, LATER, LATER._replace(batch=2**63 - 1, record=2**63 - 2)])
def test_every_cut_and_addition_is_refused(position):
    body = position.encode()
    for size in range(len(body)):
        with pytest.raises(Unopenable, match="extensions malformed"):
            Position.decode(body[:size])
    with pytest.raises(Unopenable, match="extensions malformed"):
        Position.decode(body + b"\x00")


IMPOSSIBLE = [
    FIRST._replace(batch=0),
    FIRST._replace(lane=-1),
    FIRST._replace(lane=2**32),
    FIRST._replace(record=1),
    FIRST._replace(previous=b"\x01" * 16),
    FIRST._replace(acknowledged=1),
    FIRST._replace(skipped=((1, 1),)),
    LATER._replace(previous=bytes(15)),
    LATER._replace(record=7),
    LATER._replace(acknowledged=9),
    LATER._replace(batch=2**63, record=2**63),
    LATER._replace(skipped=((0, 1),)),
    LATER._replace(skipped=((3, 2),)),
    LATER._replace(skipped=((8, 9),)),
    LATER._replace(skipped=((2, 3), (4, 5))),
    LATER._replace(skipped=((2, 4), (3, 5))),
    LATER._replace(skipped=((1, 1), (1, 1))),
    LATER._replace(skipped=((5, 5), (2, 2))),
    LATER._replace(batch=900, record=900, skipped=(*MOST, (500, 500))),
]


@pytest.mark.parametrize("position", IMPOSSIBLE, ids=str)
def test_what_no_writer_comes_to_is_neither_written_nor_read(position, monkeypatch):
    with pytest.raises(ValueError, match="no position"):
        position.encode()
    with monkeypatch.context() as patch:
        patch.setattr(Position, "_holds", lambda self: True)
        try:
            body = position.encode()
        except struct.error:
            return  # it has no place in the bytes
    if len(position.previous) == 16:
        with pytest.raises(Unopenable, match="extensions malformed"):
            Position.decode(body)


def test_the_most_ranges():
    position = LATER._replace(batch=900, record=900, skipped=MOST)
    assert Position.decode(position.encode()) == position


def numbers(made):
    return {number for first, last in made for number in range(first, last + 1)}


@given(ranges(), ranges(), st.integers(1, 400), st.integers(0, 30))
def test_ranges_are_sets_of_numbers(one, other, first, more):
    added = with_range(one, first, first + more)
    assert numbers(added) == numbers(one) | set(range(first, first + more + 1))
    assert all(after[0] > before[1] + 1 for before, after in pairwise(added))
    assert numbers(without(one, other)) == numbers(one) - numbers(other)
    assert without(without(one, other), one) == []


@given(ranges(), st.integers(1, 8))
def test_coarser_ranges_are_fewer_and_lose_nothing(made, most):
    fewer = coarser(list(made), most)
    assert len(fewer) == min(len(made), most)
    assert numbers(fewer) >= numbers(made)
    assert not made or (fewer[0][0], fewer[-1][1]) == (made[0][0], made[-1][1])
