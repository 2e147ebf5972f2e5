"""Epoch keys and what is derived from them."""

import dataclasses
import hmac
import itertools

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kveil.protocol.envelope import key_schedule
from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_schedule import (
    EpochKey,
    KeyHidingKey,
    WireKeys,
    derive_hiding_key_id,
    derive_kid,
    derive_kid_check,
    new_epoch_key_secret,
)
from tests.vectors.reference import Sealer, hkdf_expand, lp, place, u

SECRET = bytes(range(32))
BLOCK = KeyBlock(provider=1, name="main", mechanism=1, version="1", wrapped=bytes(72))
PLACE = {"realm": "demo", "topic": "orders"}


def epoch_key(**fields):
    made = {"secret": SECRET, "block": BLOCK, **PLACE} | fields
    provider = made["block"].provider
    kid = derive_kid(made["secret"], realm=made["realm"], topic=made["topic"], provider=provider)
    return EpochKey(**{"kid": kid} | made)


def test_secrets_are_32_bytes_and_never_twice_the_same():
    made = {new_epoch_key_secret() for _ in range(10)}
    assert len(made) == 10
    assert {len(secret) for secret in made} == {32}


def test_kid_and_check_are_the_specifications():
    info = b"kveil/v1/kid\x00" + place("demo", "orders") + b"\x07" + lp(b"p-1")
    made = hkdf_expand(SECRET, info, 48)
    assert derive_kid(SECRET, provider=7, producer_id=b"p-1", **PLACE) == made[:16]
    assert derive_kid_check(SECRET, provider=7, producer_id=b"p-1", **PLACE) == made[16:]


def test_everything_goes_into_the_kid():
    base = {"secret": SECRET, "realm": "demo", "topic": "orders", "provider": 1, "producer_id": b""}
    others = [
        {"secret": bytes(32)},
        {"realm": "demo2"},
        {"topic": "orders2"},
        {"provider": 2},
        {"producer_id": b"p"},
        {"realm": "demoo", "topic": "rders"},
    ]
    kids = [derive_kid(made.pop("secret"), **made) for made in ({**base, **other} for other in [{}, *others])]
    assert len(set(kids)) == len(kids)


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_key_of_another_length(size):
    with pytest.raises(Unopenable, match="key length"):
        derive_kid(bytes(size), provider=1, **PLACE)
    with pytest.raises(Unopenable, match="key length"):
        EpochKey(secret=bytes(size), kid=bytes(16), block=BLOCK, **PLACE)


@pytest.mark.parametrize("place_", [{"realm": "", "topic": "orders"}, {"realm": "demo", "topic": ""}])
def test_there_is_no_empty_realm_or_topic(place_):
    with pytest.raises(ValueError, match="empty"):
        derive_kid(SECRET, provider=1, **place_)


@pytest.mark.parametrize("kid", [bytes(16), b"", Sealer().made_kid()[:15], Sealer(provider=2).made_kid()])
def test_the_kid_must_be_the_keys(kid):
    with pytest.raises(Unopenable, match="kid"):
        epoch_key(kid=kid)


def test_a_key_shows_no_secret_and_never_changes():
    key = epoch_key()
    batch = key.batch_keys(0, bytes(56), b"")
    for text in (repr(key), str(key), repr(batch), f"{batch}"):
        for secret in (SECRET, batch.key, batch.nonce):
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text
    with pytest.raises(dataclasses.FrozenInstanceError):
        key.secret = bytes(32)


def test_keys_are_equal_to_themselves_only():
    assert epoch_key() != epoch_key()


def test_batch_keys_are_the_specifications():
    header, extensions = bytes(range(56)), b"extensions"
    info = b"kveil/v1/batch\x00" + place("demo", "orders") + u(9, 4) + header + extensions
    made = hkdf_expand(SECRET, info, 76)
    assert epoch_key().batch_keys(9, header, extensions) == (made[:32], made[32:44], made[44:])


def test_everything_goes_into_the_batch_keys():
    keys = [epoch_key(), epoch_key(realm="demo2"), epoch_key(topic="orders2"), epoch_key(secret=bytes(32))]
    made = [key.batch_keys(0, bytes(56), b"ab") for key in keys]
    made += [keys[0].batch_keys(1, bytes(56), b"ab"), keys[0].batch_keys(0, bytes(56), b"ac")]
    made += [keys[0].batch_keys(0, bytes(55) + b"\x01", b"ab")]
    for one, other in itertools.combinations(made, 2):
        assert not set(one) & set(other)


def test_record_keys_are_the_specifications():
    key, salt = epoch_key(), bytes(range(24))
    info = b"kveil/v1/record\x00" + place("demo", "orders") + u(9, 4) + b"\x01" + key.kid + salt
    made = hkdf_expand(SECRET, info, 44)
    nonce = (int.from_bytes(made[32:], "big") ^ 5).to_bytes(12, "big")
    expected = AESGCM(made[:32]).encrypt(nonce, b"plain", b"aad")
    assert key.record_cipher(9, salt).encrypt(5, b"plain", b"aad") == expected


def test_everything_goes_into_the_record_keys():
    keys = [epoch_key(), epoch_key(realm="demo2"), epoch_key(topic="orders2"), epoch_key(secret=bytes(32))]
    ciphers = [key.record_cipher(0, bytes(24)) for key in keys]
    ciphers += [keys[0].record_cipher(1, bytes(24)), keys[0].record_cipher(0, bytes(23) + b"\x01")]
    assert len({cipher.encrypt(0, bytes(16), b"") for cipher in ciphers}) == len(ciphers)


def hiding_key(**fields):
    return KeyHidingKey(**{"id": bytes(range(16)), "secret": SECRET, **PLACE} | fields)


@pytest.mark.parametrize("key", [b"", b"k", bytes(5000)])
def test_wire_keys_are_the_specifications(key):
    expected = hkdf_expand(SECRET, b"kveil/v1/key\x00" + place("demo", "orders") + key, 32)
    hiding = hiding_key()
    assert hiding.wire_key(key) == hiding.wire_key(key) == expected


def test_everything_goes_into_the_wire_keys():
    others = [{}, {"realm": "demo2"}, {"topic": "orders2"}, {"secret": bytes(32)}, {"realm": "demoo", "topic": "rders"}]
    assert len({hiding_key(**fields).wire_key(b"k") for fields in others}) == len(others)


def test_remembered_wire_keys_are_those_of_their_secret_and_topic(monkeypatch):
    monkeypatch.setattr(WireKeys, "MOST", 3)
    remembered = WireKeys()
    fields = [{}, {"realm": "demo2"}, {"topic": "orders2"}, {"secret": bytes(32)}, {"id": bytes(16)}]
    pairs = [(hiding_key(**each), hiding_key(**each, remembered=remembered)) for each in fields]
    for key in (b"a", b"b", b"", b"a", bytes(5000), b"c", b"d", b"b", b"a"):
        for plain, remembering in pairs:
            assert remembering.wire_key(key) == plain.wire_key(key)


def test_wire_keys_are_remembered_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(WireKeys, "MOST", 3)
    derived = []
    wire_key = WireKeys().over(lambda key: derived.append(key) or key * 2)
    long = bytes(WireKeys.LONGEST + 1)
    for key in (b"1", b"2", b"1", b"3", b"2", long, long):
        assert wire_key(key) == key * 2
    assert derived == [b"1", b"2", b"3", long, long]
    assert wire_key(b"4") == b"44"  # no room: all were forgotten
    wire_key(b"1")
    wire_key(b"4")
    assert derived[5:] == [b"4", b"1"]


def test_the_id_of_a_wrapped_key_hiding_key_is_its_own_and_its_realms():
    """As FORMAT.md, section 10.2, has it: computed here by hand."""
    secret = bytes(range(32))
    info = b"kveil/v1/hiding-id\x00\x00\x03lab"
    expected = hmac.digest(secret, info + b"\x01", "sha512")[:16]
    assert derive_hiding_key_id(secret, realm="lab") == expected
    assert derive_hiding_key_id(secret, realm="la") != expected
    assert derive_hiding_key_id(bytes(32), realm="lab") != expected
    for size in (0, 31, 33):
        with pytest.raises(Unopenable, match="key length"):
            derive_hiding_key_id(bytes(size), realm="lab")
    with pytest.raises(ValueError, match="empty"):
        derive_hiding_key_id(secret, realm="")


def test_a_key_hiding_key_is_checked_and_shows_nothing():
    for size in (0, 31, 33):
        with pytest.raises(Unopenable, match="key length"):
            hiding_key(secret=bytes(size))
    with pytest.raises(ValueError, match="15"):
        hiding_key(id=bytes(15))
    with pytest.raises(ValueError, match="empty"):
        hiding_key(realm="")
    for text in (repr(hiding_key()), str(hiding_key())):
        assert SECRET.hex() not in text
        assert repr(SECRET)[2:-1] not in text
    assert hiding_key() != hiding_key()


def test_limits():
    assert key_schedule.MAX_EPOCH_BATCHES == 2**32
    assert key_schedule.MAX_EPOCH_BYTES == 32 * 2**40
    assert key_schedule.MAX_EPOCH_SECONDS == 86_400
