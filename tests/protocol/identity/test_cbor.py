"""Deterministic CBOR: one encoding of each value, and nothing that the format doesn't have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kveil.protocol.identity import cbor
from kveil.protocol.identity.errors import Malformed

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, cbor.MAX_UINT) | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 2**20), inner, max_size=4),
    max_leaves=8,
)


def depth(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@given(VALUES)
def test_both_ways(value):
    data = cbor.encode(value)
    if depth(value) < cbor.MAX_DEPTH:
        assert cbor.decode(data, "it") == value
    for wrong in (data[:-1], data + b"\0", data + data):
        with pytest.raises(Malformed):
            cbor.decode(wrong, "it")


@given(st.binary(max_size=80))
def test_any_bytes_are_the_encoding_of_what_they_mean_or_refused(data):
    try:
        value = cbor.decode(data, "it")
    except Malformed:
        return
    assert cbor.encode(value) == data


@pytest.mark.parametrize(
    ("data", "why"),
    {
        "date": ("c100", "a kind of value"),
        "number of any size": ("c249010000000000000000", "a kind of value"),
        "number with a huge exponent": ("c5821b7fffffffffffffff01", "a kind of value"),
        "pattern": ("d8236161", "a kind of value"),
        "shared value": ("d81c80", "a kind of value"),
        "set": ("d9010280", "a kind of value"),
        "float": ("fb3ff0000000000000", "a kind of value"),
        "half float": ("f93c00", "a kind of value"),
        "undefined": ("f7", "a kind of value"),
        "simple value": ("f0", "a kind of value"),
        "negative": ("20", "a kind of value"),
        "tag inside": ("81c100", "a kind of value"),
        "tag as key": ("a1c10000", "a kind of value"),
        "indefinite list": ("9fff", "indefinite"),
        "indefinite map": ("bfff", "indefinite"),
        "indefinite bytes": ("5f4100ff", "indefinite"),
        "indefinite text": ("7f6161ff", "indefinite"),
        "long form of a number": ("1817", "deterministic"),
        "longer form": ("190017", "deterministic"),
        "long form of a length": ("580161", "deterministic"),
        "long form of a count": ("980100", "deterministic"),
        "keys not in order": ("a202010102", "deterministic"),
        "key twice": ("a201010102", "not CBOR"),
        "not UTF-8": ("62c328", "not CBOR"),
        "nothing": ("", "not CBOR"),
        "length beyond the end": ("5b7fffffffffffffff", "not CBOR"),
        "count beyond the end": ("9b7fffffffffffffff", "not CBOR"),
        "reserved length": ("1c", "indefinite"),
        "too deep": ("81" * 9 + "00", "not CBOR"),
        "far too deep": ("81" * 100_000 + "00", "not CBOR"),
    }.values(),
)
def test_what_is_refused(data, why):
    with pytest.raises(Malformed, match=why):
        cbor.decode(bytes.fromhex(data), "it")


def test_negative_integers_are_for_cose_alone():
    assert cbor.decode(cbor.encode({1: -19}), "it", negative=True) == {1: -19}


FIELDS = range(1, 4)


@pytest.mark.parametrize(
    ("value", "why"),
    [([], "not a map"), ({1: 0, 2: 0}, "field 3 is missing"), ({1: 0, 2: 0, 3: 0, 4: 0}, "unknown field"),
     ({"1": 0, 2: 0, 3: 0}, "unknown field"), ({True: 0, 2: 0, 3: 0}, "unknown field")],
)  # fmt: skip
def test_fields_are_those_of_the_format(value, why):
    with pytest.raises(Malformed, match=why):
        cbor.Fields(value, "it", FIELDS)


def test_fields_have_kinds():
    fields = cbor.Fields({1: True, 2: b"ab", 3: [[1], [1, 2]]}, "it", FIELDS)
    assert fields.flag(1) is True
    assert fields.octets(2, 2, 3) == b"ab"
    for read in (
        lambda: fields.uint(1),
        lambda: fields.flag(2),
        lambda: fields.octets(2, 3),
        lambda: fields.text(2, most=9),
        lambda: fields.items(2),
        lambda: fields.items(3, most=1),
        lambda: fields.rows(3, 2),
    ):
        with pytest.raises(Malformed, match="it, field"):
            read()


def test_numbers_and_text_have_bounds():
    for wrong in (-1, 4, True, "1", 1.0, None):
        with pytest.raises(Malformed):
            cbor.as_uint(wrong, "it", most=3)
    for wrong in ("", "x" * 4, "äö", b"a", None):
        with pytest.raises(Malformed):
            cbor.as_text(wrong, "it", most=3)
    with pytest.raises(Malformed):
        cbor.check_ascending([b"a", b"a"], "it")
    with pytest.raises(Malformed):
        cbor.check_ascending([2, 1], "it")
