"""What a process says of transactions that pass through it, and when it had better say nothing."""

import pytest

from kveil.proxy.keys.transactions import MAX_RANGES, MAX_TOLD, LanePlace, Transactions

KID = bytes(16)
PLACE = LanePlace(KID, 0, 1)
PRODUCER = (7, 0)
ORDERS = ("orders", 0)
OLD, NEW = 9, 12
CONCURRENT = 51


@pytest.fixture
def some() -> Transactions:
    return Transactions()


class Here:
    """A client's connection to its coordinator."""

    def __init__(self, some, producer=PRODUCER):
        self.some, self.producer = some, producer

    def add(self, *places):
        self.some.added(self, self.producer, places or (ORDERS,))

    def store(self, *batches, version=OLD, where=ORDERS, place=PLACE):
        for batch in batches:
            transaction = self.some.of_batch(self.producer, where, version)
            if transaction is not None:
                transaction.stored(place, batch)

    def end(self, *, commit, version=3, error=0):
        transaction = self.some.ending(self, self.producer, version, commit=commit)
        if transaction is not None:
            self.some.ended(transaction, self.producer, error)


def told(some):
    return [(row.first, row.last, row.committed) for row in some.told()]


def test_neighbours_with_one_end_are_one_row(some):
    here = Here(some)
    for commit, batches in ((True, (1, 2)), (True, (3,)), (False, (4,)), (True, (5,)), (True, (7,))):
        here.add()
        here.store(*batches)
        here.end(commit=commit)
    assert told(some) == [(1, 3, True), (4, 4, False), (5, 5, True), (7, 7, True)]


def test_several_partitions(some):
    here = Here(some)
    here.add(("orders", 0), ("orders", 1))
    here.add(("bills", 0))
    for number, where in enumerate((("orders", 0), ("orders", 1), ("bills", 0), ("bills", 1))):
        here.store(1, where=where, place=LanePlace(KID, where[1], number))
    here.end(commit=False)
    assert [row.lane for row in some.told()] == [0, 2, 1], "all that were added"


def test_an_epoch_of_its_own(some):
    """No partition is added, and the end may come from anywhere."""
    Here(some).store(1, 2, version=NEW)
    Here(some, (7, 1)).store(3, version=NEW)
    Here(some).end(commit=True, version=5)
    assert told(some) == [(1, 2, True)]
    Here(some, (7, 1)).end(commit=False, version=5)
    assert told(some) == [(1, 2, True), (3, 3, False)]


def test_a_new_way_of_producing_with_an_old_end(some):
    """The epoch stays, and may be that of several."""
    here = Here(some)
    here.store(1, version=NEW)
    here.end(commit=True, version=4)
    assert told(some) == []


def test_added_before_and_another_end_elsewhere(some):
    here, other = Here(some), Here(some)
    here.add()
    here.store(1)
    other.add()  # its connection is another one: so is the transaction, for all that is known here
    here.store(2)
    here.end(commit=True)
    other.end(commit=True)
    assert told(some) == []


def test_another_partition_over_another_connection(some):
    """The client moved on in between: what was added over the one before may have ended elsewhere."""
    here, other = Here(some), Here(some)
    here.add()
    here.store(1)
    other.add(("orders", 1))
    here.end(commit=True)
    other.end(commit=True)
    assert told(some) == []


def test_another_partition_after_the_end_was_asked_for(some):
    here = Here(some)
    here.add()
    here.store(1)
    assert some.ending(here, PRODUCER, 3, commit=True) is not None
    here.add(("orders", 1))
    here.store(2, where=("orders", 1), place=LanePlace(KID, 1, 1))
    here.end(commit=True)
    assert [(row.partition, row.first) for row in some.told()] == [(1, 2)]


def test_asked_to_end_in_two_ways(some):
    here = Here(some)
    here.add()
    here.store(1)
    first = some.ending(here, PRODUCER, 3, commit=True)
    assert some.ending(here, PRODUCER, 3, commit=False) is None
    some.ended(first, PRODUCER, 0)
    assert told(some) == [(1, 1, True)], "that was answered: it is so"


def test_what_comes_while_it_is_being_ended(some):
    here = Here(some)
    here.add()
    late = some.of_batch(PRODUCER, ORDERS, OLD)
    first = some.ending(here, PRODUCER, 3, commit=True)
    late.stored(PLACE, 1)
    assert some.of_batch(PRODUCER, ORDERS, OLD) is None
    some.ended(first, PRODUCER, CONCURRENT)
    assert some.of_batch(PRODUCER, ORDERS, OLD) is None
    here.end(commit=True)
    assert told(some) == []


def test_an_answer_after_the_next_has_begun(some):
    here = Here(some)
    here.add()
    here.store(1)
    first = some.ending(here, PRODUCER, 3, commit=True)
    here.add()
    here.store(2)
    some.ended(first, PRODUCER, 0)
    here.end(commit=False)
    assert told(some) == [(1, 1, True), (2, 2, False)]


def test_an_error_ends_what_is_known(some):
    here = Here(some)
    here.add()
    here.store(1)
    here.end(commit=True, error=16)
    here.end(commit=True)
    here.add()
    some.not_added(PRODUCER, CONCURRENT)
    here.store(2)
    here.end(commit=True)
    here.add()
    here.store(3)
    some.not_added(PRODUCER, 16)
    here.end(commit=True)
    assert told(some) == [(2, 2, True)]


def test_what_it_costs(some):
    here = Here(some)
    for batch in range(1, 101):
        here.add()
        here.store(batch)
        here.end(commit=bool(batch % 2))
    assert [row.first for row in some.told()] == list(range(101 - MAX_RANGES, 101))
    for lane in range(MAX_TOLD + 5):
        here.add()
        here.store(1, place=LanePlace(b"k" * 16, 0, lane))
        here.end(commit=True)
    assert len(some.told()) == MAX_TOLD
    assert max(row.lane for row in some.told()) == MAX_TOLD + 4, "the last ones"
    some.forget([b"k" * 16])
    assert some.told() == []


def test_open_ones_without_end(some):
    for number in range(5_000):
        Here(some, (number, 0)).store(1, version=NEW)
    Here(some, (0, 0)).end(commit=True, version=5)
    assert some.told() == [], "forgotten"
    Here(some, (4_999, 0)).end(commit=True, version=5)
    assert len(some.told()) == 1
