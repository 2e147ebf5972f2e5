import pytest

from kveil.protocol.envelope import wrap
from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.envelope.wrap import unwrap_epoch_key, wrap_epoch_key
from tests.vectors.reference import Sealer

KEK = bytes(range(32, 64))
SECRET = bytes(range(32))
KID = bytes(16)
PLACE = ("demo", "orders", KID)


def test_both_ways_and_never_twice_the_same():
    wraps = [wrap_epoch_key(KEK, *PLACE, SECRET) for _ in range(3)]
    assert len(set(wraps)) == 3
    for wrapped in wraps:
        assert len(wrapped) == 72
        assert SECRET not in wrapped
        assert unwrap_epoch_key(KEK, *PLACE, wrapped) == SECRET


def test_is_the_specifications(monkeypatch):
    sealer = Sealer()
    monkeypatch.setattr(wrap.os, "urandom", lambda size: sealer.wrap_salt[:size])
    made = wrap_epoch_key(sealer.kek, sealer.realm, sealer.topic, sealer.made_kid(), sealer.secret)
    assert made == sealer.made_wrap()


def test_every_flipped_byte():
    wrapped = wrap_epoch_key(KEK, *PLACE, SECRET)
    for at in range(len(wrapped)):
        bad = bytearray(wrapped)
        bad[at] ^= 1
        with pytest.raises(Unopenable, match="wrap tag"):
            unwrap_epoch_key(KEK, *PLACE, bytes(bad))


@pytest.mark.parametrize(
    "place",
    [("demo2", "orders", KID), ("demo", "orders2", KID), ("demo", "orders", b"\x01" * 16), ("demoo", "rders", KID)],
)
def test_is_bound_to_its_place(place):
    with pytest.raises(Unopenable, match="wrap tag"):
        unwrap_epoch_key(KEK, *place, wrap_epoch_key(KEK, *PLACE, SECRET))


def test_needs_its_key_encryption_key():
    with pytest.raises(Unopenable, match="wrap tag"):
        unwrap_epoch_key(bytes(32), *PLACE, wrap_epoch_key(KEK, *PLACE, SECRET))


@pytest.mark.parametrize("size", [0, 24, 71, 73])
def test_a_wrap_of_another_length(size):
    with pytest.raises(Unopenable, match="wrap length"):
        unwrap_epoch_key(KEK, *PLACE, bytes(size))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_keys_of_another_length(size):
    with pytest.raises(Unopenable, match="key length"):
        wrap_epoch_key(bytes(size), *PLACE, SECRET)
    with pytest.raises(Unopenable, match="key length"):
        wrap_epoch_key(KEK, *PLACE, bytes(size))
    with pytest.raises(Unopenable, match="key length"):
        unwrap_epoch_key(bytes(size), *PLACE, bytes(72))
