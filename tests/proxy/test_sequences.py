"""Refused batches of idempotent producers, and those behind them (R8)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kveil.proxy.sequences import RefusedSequences
from tests.support.records import client_batch, idempotent

LAST = 2**31 - 1


def batch(sequence, *, epoch=0, producer_id=7):
    return idempotent(sequence, epoch=epoch, producer_id=producer_id)


@pytest.fixture
def refused():
    found = RefusedSequences()
    found.note("t", 0, batch(5))
    return found


def behind(refused, sequence, **fields):
    return refused.is_behind("t", 0, batch(sequence, **fields))


def test_nothing_is_behind_nothing():
    refused = RefusedSequences()
    assert not refused
    assert not behind(refused, 5)


def test_later_batches_are_behind_until_the_refused_one_comes_again(refused):
    assert behind(refused, 6)
    assert behind(refused, 9)
    assert not behind(refused, 5)
    assert not behind(refused, 6)
    assert not refused


def test_earlier_batches_are_not_behind(refused):
    assert not behind(refused, 4)
    assert behind(refused, 6)


def test_the_first_refused_one_counts(refused):
    refused.note("t", 0, batch(8))
    assert behind(refused, 6)


def test_one_refused_before_it_takes_its_place(refused):
    refused.note("t", 0, batch(3))
    assert behind(refused, 5)
    assert not behind(refused, 3)


@pytest.mark.parametrize("fields", [{"epoch": 1}, {"producer_id": 8}])
def test_a_new_epoch_or_producer_begins_anew(refused, fields):
    assert not behind(refused, 6, **fields)
    assert not refused


def test_each_partition_for_itself(refused):
    assert not refused.is_behind("t", 1, batch(6))
    assert not refused.is_behind("u", 0, batch(6))
    assert behind(refused, 6)


def test_sequences_begin_again_after_the_last():
    refused = RefusedSequences()
    refused.note("t", 0, batch(LAST))
    assert behind(refused, 0)
    assert behind(refused, 3)
    assert not behind(refused, LAST - 1)
    assert not behind(refused, LAST)


def test_producers_without_sequences_are_left_alone():
    refused = RefusedSequences()
    plain = client_batch()
    refused.note("t", 0, plain)
    assert not refused
    refused.note("t", 0, batch(5))
    assert not refused.is_behind("t", 0, plain)
    assert behind(refused, 6)


@pytest.mark.parametrize("records", [b"", b"garbage", bytes(60)])
def test_what_has_no_header_is_left_alone(refused, records):
    refused.note("t", 0, records)
    assert not refused.is_behind("t", 0, records)
    assert behind(refused, 6)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, LAST), st.integers(0, 1000))
def test_at_any_place_of_the_circle(first, distance):
    refused = RefusedSequences()
    refused.note("t", 0, batch(first))
    assert behind(refused, (first + distance) % (LAST + 1)) is (distance > 0)
