"""What a reader remembers, and for how long."""

import pytest

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_schedule import EpochKey, derive_kid
from kveil.proxy.keys.errors import KeyDenied, KeyRefused
from kveil.proxy.keys.opened import (
    LEAST_SECONDS,
    REFUSALS_PER_PARTITION,
    OpenedKeys,
    Place,
    RefusalBudget,
    Refusals,
    RefusedKeys,
)
from kveil.proxy.policy import KeyRef

BLOCK = KeyBlock(provider=1, name="default", mechanism=registry.KVEIL_WRAP, version="1", wrapped=bytes(72))
PLACE = ("orders", bytes(16), BLOCK)


def reason(refused: RefusedKeys, place: Place, now: float) -> str | None:
    try:
        refused.check(place, now)
    except (KeyRefused, KeyDenied) as error:
        return str(error)
    return None


def test_a_refusal_ends():
    refused = RefusedKeys(10)
    assert reason(refused, PLACE, 0) is None
    refused.put(PLACE, KeyRefused("because"), 0)
    assert reason(refused, PLACE, 9.9) == "because"
    assert reason(refused, PLACE, 10) is None


@pytest.mark.parametrize(
    "other",
    [
        ("other", bytes(16), BLOCK),
        ("orders", bytes(15) + b"\x01", BLOCK),
        ("orders", bytes(16), BLOCK._replace(name="eu")),
        ("orders", bytes(16), BLOCK._replace(version="2")),
        ("orders", bytes(16), BLOCK._replace(wrapped=bytes(71) + b"\x01")),
        # Without lengths between the parts these two would hash alike.
        ("orders", bytes(16), BLOCK._replace(name="defaul", version="t1")),
    ],
)
def test_a_refusal_is_of_one_envelope_only(other):
    refused = RefusedKeys(10)
    refused.put(PLACE, KeyRefused("because"), 0)
    assert reason(refused, other, 1) is None


def test_refusals_are_bounded_and_the_oldest_goes_first():
    refused = RefusedKeys(10, entries=3)
    places = [("orders", number.to_bytes(16, "big"), BLOCK) for number in range(5)]
    for place in places:
        refused.put(place, KeyRefused("because"), 0)
    assert [reason(refused, place, 1) is not None for place in places] == [False, False, True, True, True]


def test_a_second_refusal_lasts_from_then():
    refused = RefusedKeys(10, entries=2)
    other = ("other", bytes(16), BLOCK)
    refused.put(PLACE, KeyRefused("first"), 0)
    refused.put(other, KeyDenied("other"), 1)
    refused.put(PLACE, KeyRefused("second"), 5)
    refused.put(("third", bytes(16), BLOCK), KeyRefused("third"), 6)
    assert reason(refused, PLACE, 14) == "second"
    assert reason(refused, other, 6) is None


def test_all_can_be_forgotten():
    refused = RefusedKeys(10)
    refused.put(PLACE, KeyRefused("because"), 0)
    refused.clear()
    assert reason(refused, PLACE, 1) is None


def test_the_kind_of_refusal_is_remembered():
    refused = RefusedKeys(10)
    refused.put(PLACE, KeyDenied("disabled"), 0)
    with pytest.raises(KeyDenied, match="disabled"):
        refused.check(PLACE, 1)


def key_of(number: int) -> tuple[Place, EpochKey]:
    secret = number.to_bytes(32, "big")
    kid = derive_kid(secret, realm="test", topic="orders", provider=1)
    return ("orders", kid, BLOCK), EpochKey(secret=secret, realm="test", topic="orders", kid=kid, block=BLOCK)


def test_an_opened_key_ends_with_its_time_however_often_it_is_used():
    opened = OpenedKeys(10, 100)
    place, key = key_of(1)
    opened.put(place, key, 1000)
    assert [opened.get(place, now) for now in (1000, 1050, 1099.9)] == [key] * 3
    assert opened.get(place, 1100) is None
    assert opened.get(place, 1050) is None  # and is gone


def test_a_key_without_a_time_lives_for_the_frame_that_waits_for_it():
    opened = OpenedKeys(10, 0)
    place, key = key_of(1)
    opened.put(place, key, 1000)
    assert opened.get(place, 1000) is key
    assert opened.get(place, 1000 + LEAST_SECONDS) is None


def test_opened_keys_are_bounded():
    opened = OpenedKeys(2, 100)
    keys = [key_of(number) for number in range(1, 4)]
    for place, key in keys:
        opened.put(place, key, 0)
    assert [opened.get(place, 1) for place, _ in keys] == [None, keys[1][1], keys[2][1]]


def test_a_partition_may_cost_so_many_refusals_in_a_time():
    budget = RefusalBudget(10)
    for _ in range(REFUSALS_PER_PARTITION):
        assert not budget.is_spent("orders", 0, 5)
        budget.note("orders", 0, 5)
    assert budget.is_spent("orders", 0, 5)
    assert not budget.is_spent("orders", 1, 5)
    assert not budget.is_spent("other", 0, 5)
    assert not budget.is_spent("orders", 0, 15)
    budget.note("orders", 0, 15)
    assert not budget.is_spent("orders", 0, 15)


def test_the_budgets_of_partitions_are_bounded():
    budget = RefusalBudget(10, entries=3)
    for partition in range(100):
        budget.note("orders", partition, 0)
    assert len(budget._partitions) == 3


def test_denials_are_bounded_and_the_oldest_goes_first():
    denials = Refusals(10, entries=3)
    key = KeyRef(1, "default")
    for number in range(5):
        denials.put((f"t{number}", key), KeyDenied("no"), 0)
    for number in range(2):
        denials.check((f"t{number}", key), 1)
    for number in range(2, 5):
        with pytest.raises(KeyDenied):
            denials.check((f"t{number}", key), 1)
        denials.check((f"t{number}", key), 10)
