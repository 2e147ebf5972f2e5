"""Deterministic CBOR, and the only module that imports `cbor2` (FORMAT.md, section 1).

There is one encoding of each value: what is decoded is encoded again, and refused if that differs. Before the library
sees anything, a walk over the heads refuses what the format doesn't have: the library would build dates, patterns and
numbers of any size from tags, on the word of whoever wrote them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Final

import cbor2

from kveil.protocol.identity.errors import Malformed

MAX_UINT: Final = 2**63 - 1  # fits the signed integers of every language
MAX_DEPTH: Final = 8  # the deepest record has six: a mark in a list of an ended producer

_BYTES, _TEXT, _TAG, _SIMPLE, _NEGATIVE = 2, 3, 6, 7, 1
_ALLOWED_SIMPLE: Final = frozenset({0xF4, 0xF5, 0xF6})  # false, true, null


def encode(value: object) -> bytes:
    """The one encoding of maps, lists, tuples, bytes, text, integers, booleans and None."""
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, what: str, *, negative: bool = False) -> object:
    """The value, if `data` is its one encoding. Lists for arrays. Raises Malformed, with `what` in its text.

    `negative` integers stand in COSE's headers alone.
    """
    _check_heads(data, what, negative)
    try:
        value: object = cbor2.loads(data, max_depth=MAX_DEPTH, allow_indefinite=False, allow_duplicate_keys=False)
        same = encode(value) == data
    except (cbor2.CBORError, ValueError, TypeError, RecursionError):
        raise Malformed(f"{what}: not CBOR") from None
    if not same:
        raise Malformed(f"{what}: not deterministic CBOR")
    return value


def _check_heads(data: bytes, what: str, negative: bool) -> None:
    """Items stand one behind the other, containers before what they hold: no need to know which holds which."""
    at, end = 0, len(data)
    while at < end:
        first = data[at]
        major, short = first >> 5, first & 0x1F
        if (
            major == _TAG
            or (major == _SIMPLE and first not in _ALLOWED_SIMPLE)
            or (major == _NEGATIVE and not negative)
        ):
            raise Malformed(f"{what}: a kind of value that the format doesn't have")
        if short > 27:
            raise Malformed(f"{what}: indefinite length")
        at += 1
        argument = short
        if short > 23 and major != _SIMPLE:
            width = 1 << (short - 24)
            argument = int.from_bytes(data[at : at + width], "big")
            at += width
        if major in {_BYTES, _TEXT}:
            at += argument


def as_uint(value: object, where: str, *, least: int = 0, most: int = MAX_UINT) -> int:
    """An unsigned integer; a boolean is none, though Python says so."""
    if type(value) is not int or not least <= value <= most:
        raise Malformed(f"{where}: not an integer from {least} to {most}")
    return value


def as_bytes(value: object, where: str, *lengths: int) -> bytes:
    """Bytes, of one of `lengths`."""
    if not isinstance(value, bytes) or (lengths and len(value) not in lengths):
        raise Malformed(f"{where}: not {' or '.join(map(str, lengths))} bytes")
    return value


def as_text(value: object, where: str, *, most: int) -> str:
    """Text of 1 to `most` bytes."""
    if not isinstance(value, str) or not 0 < len(value.encode()) <= most:
        raise Malformed(f"{where}: not text of 1 to {most} bytes")
    return value


def as_flag(value: object, where: str) -> bool:
    """A boolean."""
    if not isinstance(value, bool):
        raise Malformed(f"{where}: not a boolean")
    return value


def as_list(value: object, where: str, *, length: int | None = None, most: int | None = None) -> list[object]:
    """A list, of `length` items or of `most` at most."""
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise Malformed(f"{where}: not a list" + (f" of {length}" if length is not None else ""))
    if most is not None and len(value) > most:
        raise Malformed(f"{where}: more than {most} items")
    return value


def check_ascending(
    keys: list[bytes] | list[int] | list[tuple[bytes, int, int]] | list[tuple[bytes, int, int, int]], where: str
) -> None:
    """Raises Malformed unless each is above the one before: so there are no two alike either."""
    if any(not one < other for one, other in pairwise(keys)):  # type: ignore[operator]
        raise Malformed(f"{where}: not ascending")


class Fields:
    """A map with known unsigned keys, read field by field. Raises Malformed for what is missing, unknown or wrong."""

    __slots__ = ("_map", "what")

    def __init__(self, value: object, what: str, keys: Collection[int], *, optional: Collection[int] = ()) -> None:
        if not isinstance(value, dict):
            raise Malformed(f"{what}: not a map")
        if any(type(key) is not int or (key not in keys and key not in optional) for key in value):
            raise Malformed(f"{what}: unknown field")
        for key in keys:
            if key not in value:
                raise Malformed(f"{what}: field {key} is missing")
        self._map: Mapping[int, object] = value
        self.what = what

    def where(self, key: int) -> str:
        """What an error calls the field."""
        return f"{self.what}, field {key}"

    def value(self, key: int) -> object:
        """What stands there, as it is; None where it is null or not there."""
        return self._map.get(key)

    def uint(self, key: int, *, least: int = 0, most: int = MAX_UINT) -> int:
        return as_uint(self._map[key], self.where(key), least=least, most=most)

    def octets(self, key: int, *lengths: int) -> bytes:
        return as_bytes(self._map[key], self.where(key), *lengths)

    def text(self, key: int, *, most: int) -> str:
        return as_text(self._map[key], self.where(key), most=most)

    def flag(self, key: int) -> bool:
        return as_flag(self._map[key], self.where(key))

    def items(self, key: int, *, length: int | None = None, most: int | None = None) -> list[object]:
        return as_list(self._map[key], self.where(key), length=length, most=most)

    def rows(self, key: int, width: int, *, most: int | None = None) -> list[list[object]]:
        """Lists of `width` items each."""
        where = self.where(key)
        return [as_list(row, where, length=width) for row in self.items(key, most=most)]
