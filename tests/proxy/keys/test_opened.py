"""What a reader remembers, and for how long."""

import pytest

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import KeyBlock
from kveil.proxy.keys.opened import RefusedKeys

BLOCK = KeyBlock(provider=1, name="default", mechanism=registry.KVEIL_WRAP, version="1", wrapped=bytes(72))
PLACE = ("orders", bytes(16), BLOCK)


def test_a_refusal_ends():
    refused = RefusedKeys(10)
    assert refused.reason(PLACE, 0) is None
    refused.put(PLACE, "because", 0)
    assert refused.reason(PLACE, 9.9) == "because"
    assert refused.reason(PLACE, 10) is None


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
    refused.put(PLACE, "because", 0)
    assert refused.reason(other, 1) is None


def test_refusals_are_bounded_and_the_oldest_goes_first():
    refused = RefusedKeys(10, entries=3)
    places = [("orders", number.to_bytes(16, "big"), BLOCK) for number in range(5)]
    for place in places:
        refused.put(place, "because", 0)
    assert [refused.reason(place, 1) is not None for place in places] == [False, False, True, True, True]


def test_a_second_refusal_lasts_from_then():
    refused = RefusedKeys(10, entries=2)
    other = ("other", bytes(16), BLOCK)
    refused.put(PLACE, "first", 0)
    refused.put(other, "other", 1)
    refused.put(PLACE, "second", 5)
    refused.put(("third", bytes(16), BLOCK), "third", 6)
    assert refused.reason(PLACE, 14) == "second"
    assert refused.reason(other, 6) is None


def test_all_can_be_forgotten():
    refused = RefusedKeys(10)
    refused.put(PLACE, "because", 0)
    refused.clear()
    assert refused.reason(PLACE, 1) is None
