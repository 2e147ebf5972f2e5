"""The epochs of the topics, by themselves."""

import pytest

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_schedule import EpochKey, derive_kid
from kveil.proxy.keys.sealing import MAX_EPOCH_BATCHES, MAX_EPOCH_BYTES, Epoch, Epochs
from kveil.proxy.policy import KeyRef


def key_of(topic: str = "orders", name: str = "default", version: str = "1", first: int = 0) -> EpochKey:
    secret = bytes([first]) + bytes(31)
    block = KeyBlock(provider=1, name=name, mechanism=registry.KVEIL_WRAP, version=version, wrapped=bytes(72))
    kid = derive_kid(secret, realm="r", topic=topic, provider=1)
    return EpochKey(secret=secret, realm="r", topic=topic, kid=kid, block=block)


@pytest.mark.parametrize(
    ("batches", "nbytes", "now", "spent"),
    [
        (0, 0, 0, False),
        (0, 0, 99, False),
        (0, 0, 100, True),
        (MAX_EPOCH_BATCHES - 1, 0, 0, False),
        (MAX_EPOCH_BATCHES, 0, 0, True),
        (0, MAX_EPOCH_BYTES - 1, 0, False),
        (0, MAX_EPOCH_BYTES, 0, True),
    ],
)
def test_when_an_epoch_is_spent(batches, nbytes, now, spent):
    assert Epoch(key=key_of(), since=0, batches=batches, nbytes=nbytes).is_spent(now, 100) is spent


def test_a_clock_that_went_back_ends_no_epoch():
    assert not Epoch(key=key_of(), since=50).is_spent(0, 100)


@pytest.mark.parametrize(
    ("topic", "name", "version", "found"),
    [
        ("orders", "default", "1", True),
        ("other", "default", "1", False),
        ("orders", "eu", "1", False),
        ("orders", "default", "2", False),
        ("orders", "default", "", False),
    ],
)
def test_what_the_current_key_must_agree_with(topic, name, version, found):
    epochs = Epochs(100)
    key = key_of()
    epochs.begin(key, 0)
    assert (epochs.current(topic, KeyRef(1, name), version, 1) is key) is found


def test_a_new_epoch_starts_counting_anew():
    epochs = Epochs(100)
    old, new = key_of(first=1), key_of(first=2)
    epochs.begin(old, 0)
    epochs.note_use(old, 5)
    epochs.begin(new, 10)
    epochs.note_use(old, 7)
    epochs.note_use(new, 11)
    epoch = epochs._by_topic["orders"]
    assert (epoch.key, epoch.since, epoch.batches, epoch.nbytes) == (new, 10, 1, 11)


def test_no_secret_is_in_a_repr():
    assert key_of(first=0xAB).secret.hex() not in repr(Epoch(key=key_of(first=0xAB), since=0))
    assert "secret" not in repr(Epoch(key=key_of(), since=0))
