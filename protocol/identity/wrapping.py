"""Epoch keys wrapped for their recipients, and lists of recipients (FORMAT.md, sections 7 and 8)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from kveil.protocol.envelope.key_schedule import EPOCH_KEY_LENGTH
from kveil.protocol.identity import cbor, crypto
from kveil.protocol.identity.crypto import KemSuite
from kveil.protocol.identity.errors import Malformed, Refused
from kveil.protocol.identity.identity import ID_LENGTH, PublicKeys, Unsealer

EPOCH_KEY: Final = b"kveil/v1/epoch-key\x00"
REGRANT: Final = b"kveil/v1/regrant\x00"
HIDING_KEY: Final = b"kveil/v1/hiding-key\x00"


def wrap_length(suite: KemSuite) -> int:
    """Bytes of a wrap."""
    return crypto.sealed_length(suite, EPOCH_KEY_LENGTH)


WRAP_LENGTHS: Final = tuple(map(wrap_length, KemSuite))


class Wrap(NamedTuple):
    """An epoch key for one recipient."""

    recipient: bytes
    wrapped: bytes

    def __repr__(self) -> str:
        return f"Wrap({self.recipient.hex()}, redacted)"


def wrap_for(recipients: Sequence[PublicKeys], purpose: bytes, bound_to: bytes, secret: bytes) -> tuple[Wrap, ...]:
    """Wraps for all of them, ascending by id. `bound_to` is the digest of what the record says besides.

    Raises Malformed if there are none, two alike, or of unlike suites.
    """
    if len(secret) != EPOCH_KEY_LENGTH:
        raise Malformed("length of the epoch key")
    if len({keys.suite for keys in recipients}) != 1:
        raise Malformed("no recipients, or of unlike KEM suites")
    ordered = sorted(recipients, key=lambda keys: keys.id)
    cbor.check_ascending([keys.id for keys in ordered], "recipients")
    return tuple(
        Wrap(keys.id, crypto.hpke_seal(keys.suite, keys.kem, purpose + bound_to + keys.id, secret)) for keys in ordered
    )


def unwrap(unsealer: Unsealer, purpose: bytes, bound_to: bytes, wrapped: bytes) -> bytes:
    """The 32-byte epoch key. Raises Refused if the wrap is another's, for something else, or of another length."""
    secret = unsealer.open(purpose + bound_to + unsealer.public.id, wrapped)
    if len(secret) != EPOCH_KEY_LENGTH:
        raise Refused("length of the epoch key")
    return secret


def read_wraps(rows: list[list[object]], where: str) -> tuple[Wrap, ...]:
    """At least one, ascending, all of one suite's length. Raises Malformed."""
    wraps = tuple(
        Wrap(cbor.as_bytes(row[0], where, ID_LENGTH), cbor.as_bytes(row[1], where, *WRAP_LENGTHS)) for row in rows
    )
    if len({len(wrap.wrapped) for wrap in wraps}) != 1:
        raise Malformed(f"{where}: none, or of unlike KEM suites")
    cbor.check_ascending([wrap.recipient for wrap in wraps], where)
    return wraps


def recipients_hash(ids: Sequence[bytes]) -> bytes:
    """SHA-256 of the ids in their order."""
    return hashlib.sha256(b"".join(ids)).digest()
