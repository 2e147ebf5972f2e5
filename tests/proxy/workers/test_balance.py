"""Which worker gets a connection."""

import random
from collections import Counter

import pytest

from kveil.proxy.workers.balance import LOAD_STEP, Balance

BOOTSTRAP, NODE, OTHER_NODE = (0, None), (0, 1), (0, 2)


@pytest.fixture
def balance():
    made = Balance(random.Random(1))
    made.add(1)
    made.add(2)
    return made


def chosen(balance, port, count=1):
    return [balance.choose(port)[0] for _ in range(count)]


def load(balance, **loads):
    """Let each worker report this load for long enough to be believed."""
    for second in range(20):
        for name, value in loads.items():
            balance.note_load(int(name[1:]), value * second, float(second))


def test_each_port_by_itself(balance):
    """Idle connections to the bootstrap port don't count for a broker's."""
    ports = (BOOTSTRAP, NODE, OTHER_NODE)
    given = Counter((port, worker) for _ in range(10) for port in ports for worker in chosen(balance, port))
    assert set(given.values()) == {5}


def test_the_less_loaded_of_equals(balance):
    load(balance, w1=0.9, w2=0.3)
    assert chosen(balance, NODE, 4) == [2, 1, 2, 1]
    load(balance, w1=0.1, w2=0.7)
    assert chosen(balance, NODE, 4) == [1, 2, 1, 2]


def test_a_load_that_says_nothing(balance):
    """Else every first connection of idle workers would go to one of them."""
    load(balance, w1=LOAD_STEP / 10, w2=LOAD_STEP / 20)
    ports = [(0, node) for node in range(6)]
    assert Counter(balance.choose(port)[0] for port in ports) == {1: 3, 2: 3}


def test_load_is_of_late(balance):
    load(balance, w1=0.9, w2=0.1)
    for second in range(20, 30):
        balance.note_load(1, 0.9 * 19, float(second))
        balance.note_load(2, 0.1 * 19 + 0.5 * (second - 19), float(second))
    assert chosen(balance, NODE) == [1]


def test_consumers_busy_connections_are_spread():
    """Each opens a busy and an idle one to the same port, one after the other."""
    busy = Counter()
    for seed in range(300):
        balance = Balance(random.Random(seed))
        balance.add(1)
        balance.add(2)
        for _ in range(4):
            busy[balance.choose(NODE)[0]] += 1
            balance.choose(NODE)
    assert 0.4 < busy[1] / busy.total() < 0.6


def test_one_that_ended_makes_room(balance):
    numbers = [balance.choose(NODE) for _ in range(6)]
    gone = [number for worker, number in numbers if worker == 1]
    for number in gone:
        balance.ended(number)
        balance.ended(number)  # it ends once
    assert (len(balance), balance.connections_of(1), balance.connections_of(2)) == (3, 0, 3)
    assert chosen(balance, NODE, 3) == [1, 1, 1]


def test_a_worker_that_died_is_not_chosen(balance):
    numbers = [balance.choose(NODE)[1] for _ in range(4)]
    balance.remove(1)
    assert (balance.workers, len(balance)) == ([2], 2)
    assert chosen(balance, NODE, 3) == [2, 2, 2]
    for number in numbers:
        balance.ended(number)
    assert len(balance) == 3
    balance.add(1)
    assert (balance.connections_of(1), chosen(balance, NODE, 3)) == (0, [1, 1, 1])


def test_a_report_of_one_that_is_gone(balance):
    balance.remove(1)
    balance.note_load(1, 5.0, 1.0)
    assert (balance.cpu_seconds_of(1), balance.workers) == (0.0, [2])
