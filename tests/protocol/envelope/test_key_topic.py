"""Entries of the key topic: both ways, bound to all that they name, and nothing else taken."""

import hashlib
import hmac
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from kveil.protocol.envelope import key_topic
from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.envelope.header import KeyBlock, lp
from kveil.protocol.envelope.key_schedule import KeyHidingKey, derive_kid
from kveil.protocol.envelope.key_topic import (
    Erased,
    Generation,
    KeyTopicCodec,
    Kind,
    Removed,
    State,
    WrappedRecordKey,
)
from kveil.protocol.envelope.wrap import wrap_epoch_key

FORMAT = Path(key_topic.__file__).with_name("FORMAT.md")
PK = bytes(range(64, 96))
CODEC = KeyTopicCodec(lambda: PK, realm="demo")
SECRET, GENERATION_SECRET = bytes(range(32)), bytes(range(32, 64))
ID, KID, GENERATION = bytes(range(16)), bytes(range(16, 32)), bytes(range(32, 48))
BLOCK = KeyBlock(provider=1, name="customers", mechanism=1, version="2", wrapped=bytes(72))
WRAPPED = WrappedRecordKey(ID, KID, GENERATION, "orders", CODEC.wrap(GENERATION_SECRET, "orders", ID, KID, SECRET))
ENTRIES = [
    Generation(GENERATION, State.ACTIVE, BLOCK),
    Generation(GENERATION, State.RETIRED, BLOCK),
    WRAPPED,
    Erased(ID, KID, GENERATION, "orders"),
]


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, 2.3, for up to two blocks, from the standard library alone."""
    one = hmac.digest(key, info + b"\1", hashlib.sha512)
    return (one + hmac.digest(key, one + info + b"\2", hashlib.sha512))[:length]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: type(entry).__name__)
def test_both_ways(entry):
    assert CODEC.decode(*CODEC.encode(entry)) == entry


def test_is_the_specifications(monkeypatch):
    """Section 13 of FORMAT.md, written a second time."""
    salt = bytes(range(24))
    monkeypatch.setattr(key_topic.os, "urandom", lambda size: salt[:size])
    made = expand(GENERATION_SECRET, b"kveil/v1/record-key\0" + lp(b"demo") + lp(b"orders") + ID + KID + salt, 44)
    wrapped = salt + AESGCM(made[:32]).encrypt(made[32:], SECRET, None)
    assert CODEC.wrap(GENERATION_SECRET, "orders", ID, KID, SECRET) == wrapped
    entry = WRAPPED._replace(wrapped=wrapped)
    assert CODEC.encode(entry) == (b"\1\2" + ID + KID, b"\1" + GENERATION + lp(b"orders") + wrapped)

    def code(key: bytes, body: bytes) -> bytes:
        return body + expand(PK, b"kveil/v1/key-topic\0" + lp(b"demo") + lp(key) + body, 32)

    key = b"\1\1" + GENERATION
    assert CODEC.encode(ENTRIES[1]) == (key, code(key, b"\1\2" + BLOCK.encode()))
    key = b"\1\3" + ID + KID
    assert CODEC.encode(ENTRIES[3]) == (key, code(key, b"\1" + GENERATION + lp(b"orders")))
    assert CODEC.null_key_id("orders") == expand(PK, b"kveil/v1/null-key\0" + lp(b"demo") + lp(b"orders"), 16)


def test_the_worked_example(monkeypatch):
    """What stands in section 13 is what is made of the keys of section 12."""
    pk, record_key = bytes(range(0xD0, 0xF0)), b"k"
    codec = KeyTopicCodec(lambda: pk, realm="demo")
    salt = bytes(range(0x80, 0x98))
    monkeypatch.setattr(key_topic.os, "urandom", lambda size: salt[:size])
    hiding = KeyHidingKey(id=bytes(range(16, 32)), secret=pk, realm="demo", topic="orders")
    ek, gk = bytes(range(32)), bytes(range(0x60, 0x80))
    kid = derive_kid(ek, realm="demo", topic="orders", provider=8)
    gk_kid = derive_kid(gk, realm="demo", topic="_kveil.keys", provider=1)
    record_id = hiding.wire_key(record_key)[:16]
    wrapped = codec.wrap(gk, "orders", record_id, kid, ek)
    kek_wrap = wrap_epoch_key(bytes(range(0x40, 0x60)), "demo", "_kveil.keys", gk_kid, gk)
    block = KeyBlock(provider=1, name="main", mechanism=1, version="1", wrapped=kek_wrap)
    shown = {
        "kid of the GK": (gk_kid, b""),
        "generation": codec.encode(Generation(gk_kid, State.ACTIVE, block)),
        "kid of the EK": (kid, b""),
        "record id": (record_id, b""),
        "record key": codec.encode(WrappedRecordKey(record_id, kid, gk_kid, "orders", wrapped)),
        "erased": codec.encode(Erased(record_id, kid, gk_kid, "orders")),
        "record id of a null key": (codec.null_key_id("orders"), b""),
    }
    text = "".join(FORMAT.read_text().rpartition("## 13. ")[2].split())
    for name, parts in shown.items():
        for part in parts:
            assert part.hex() in text, f"{name}: {part.hex()}"


def test_a_wrap_opens_for_what_it_was_made_for_alone():
    assert CODEC.unwrap(GENERATION_SECRET, WRAPPED) == SECRET
    other_realm = KeyTopicCodec(lambda: PK, realm="demo2")
    wrong = [
        (CODEC, SECRET, WRAPPED),
        (other_realm, GENERATION_SECRET, WRAPPED),
        (CODEC, GENERATION_SECRET, WRAPPED._replace(topic="payments")),
        (CODEC, GENERATION_SECRET, WRAPPED._replace(record_id=bytes(16))),
        (CODEC, GENERATION_SECRET, WRAPPED._replace(kid=bytes(16))),
    ]
    for codec, secret, entry in wrong:
        with pytest.raises(Unopenable, match="wrap tag"):
            codec.unwrap(secret, entry)
    with pytest.raises(Unopenable, match="key length"):
        CODEC.unwrap(GENERATION_SECRET[:31], WRAPPED)


def test_every_flipped_byte_of_a_wrap():
    for at in range(len(WRAPPED.wrapped)):
        bad = bytearray(WRAPPED.wrapped)
        bad[at] ^= 1
        with pytest.raises(Unopenable, match="wrap tag"):
            CODEC.unwrap(GENERATION_SECRET, WRAPPED._replace(wrapped=bytes(bad)))


@pytest.mark.parametrize("entry", [ENTRIES[0], ENTRIES[3]], ids=["generation", "erased"])
def test_nobody_without_the_key_hiding_key_makes_one(entry):
    """Neither by changing a byte, nor under another key, nor for another realm."""
    key, value = CODEC.encode(entry)
    for at in range(1, len(value)):
        bad = bytearray(value)
        bad[at] ^= 1
        with pytest.raises(Unopenable, match="authentication code"):
            CODEC.decode(key, bytes(bad))
    for at in range(2, len(key)):
        bad = bytearray(key)
        bad[at] ^= 1
        with pytest.raises(Unopenable, match="authentication code"):
            CODEC.decode(bytes(bad), value)
    for other in (KeyTopicCodec(lambda: SECRET, realm="demo"), KeyTopicCodec(lambda: PK, realm="dem")):
        with pytest.raises(Unopenable, match="authentication code"):
            other.decode(key, value)


def test_what_is_taken_away():
    assert CODEC.decode(*CODEC.removal_of(WRAPPED)) == Removed(Kind.RECORD_KEY, KID)
    assert CODEC.decode(*CODEC.removal_of(ENTRIES[0])) == Removed(Kind.GENERATION, GENERATION)
    assert CODEC.decode(CODEC.encode(ENTRIES[3])[0], None) == Removed(Kind.ERASED, KID)
    with pytest.raises(ValueError, match="removal_of"):
        CODEC.encode(Removed(Kind.ERASED, KID))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: type(entry).__name__)
def test_every_length_but_the_right_one(entry):
    key, value = CODEC.encode(entry)
    for wrong in [value[:at] for at in range(len(value))] + [value + b"\0"]:
        with pytest.raises(Unopenable):
            CODEC.decode(key, wrong)
    for wrong in [key[:at] for at in range(len(key))] + [key + b"\0", None]:
        with pytest.raises(Unopenable):
            CODEC.decode(wrong, value)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (b"\2\2" + ID + KID, b"", "version"),
        (b"\1\4" + ID + KID, b"", "mode"),
        (b"\1\0" + ID, b"", "mode"),
        (b"\1\2" + ID + KID, b"\2" + bytes(100), "version"),
        (b"\1\2" + ID + KID, b"", "version"),
        (b"\1\2" + ID + KID, b"\1" + GENERATION + b"\0\0" + bytes(72), "length"),
        (b"\1\2" + ID + KID, b"\1" + GENERATION + b"\0\1\xff" + bytes(72), "length"),
        (b"\1\2" + ID + KID, b"\1" + GENERATION + lp(b"t") + bytes(71), "wrap length"),
    ],
)
def test_what_is_refused(key, value, reason):
    with pytest.raises(Unopenable, match=reason):
        CODEC.decode(key, value)


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"\1", "unknown flag"), (b"\1\0" + BLOCK.encode(), "unknown flag"), (b"\1\3" + BLOCK.encode(), "unknown flag"),
     (b"\1\1", "key block"), (b"\1\1" + BLOCK.encode() + b"\0", "key block")],
)  # fmt: skip
def test_what_is_refused_of_those_who_hold_the_key(body, reason):
    """A newer program's entry is refused, not guessed at."""
    key = b"\1\1" + GENERATION
    with pytest.raises(Unopenable, match=reason):
        CODEC.decode(key, CODEC._with_code(key, body))


@given(st.binary(max_size=60), st.none() | st.binary(max_size=200))
def test_any_bytes_are_an_entry_or_refused(key, value):
    try:
        entry = CODEC.decode(key, value)
    except Unopenable:
        return
    if not isinstance(entry, Removed):
        assert CODEC.encode(entry) == (key, value)
