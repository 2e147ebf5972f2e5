"""The key-hiding key, which the authority hands to each member that may produce or consume (FORMAT.md, section 10)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from kveil.protocol.envelope.header import HIDING_KEY_ID_LENGTH
from kveil.protocol.envelope.key_schedule import HIDING_KEY_LENGTH, derive_hiding_key_id
from kveil.protocol.identity import cbor
from kveil.protocol.identity.alarms import Alarm, AlarmKind
from kveil.protocol.identity.errors import Malformed, Refused
from kveil.protocol.identity.identity import ID_LENGTH, PublicKeys, Signer, Unsealer
from kveil.protocol.identity.signing import MAX_REALM, RecordType, Signed, sign
from kveil.protocol.identity.wrapping import HIDING_KEY, WRAP_LENGTHS, unwrap, wrap_for


class HidingKeyName(NamedTuple):
    """Which key-hiding key: two that differ in anything are two keys."""

    id: bytes
    """As envelopes have it. An authority derives it; that of a key file, which it took over, is random."""
    check: bytes
    """What is derived from the key in either case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """The fields of a record that hands the key to a member."""

    realm: str
    member: bytes
    key: HidingKeyName
    wrapped: bytes = field(repr=False)

    @classmethod
    def from_map(cls, value: object) -> Handed:
        """Raises Malformed."""
        fields = cbor.Fields(value, "hiding", range(1, 6))
        return cls(
            realm=fields.text(1, most=MAX_REALM),
            member=fields.octets(2, ID_LENGTH),
            key=HidingKeyName(fields.octets(3, HIDING_KEY_ID_LENGTH), fields.octets(4, HIDING_KEY_ID_LENGTH)),
            wrapped=fields.octets(5, *WRAP_LENGTHS),
        )

    def open(self, unsealer: Unsealer) -> bytes:
        """The 32-byte key, for its member alone. Raises Refused."""
        if unsealer.public.id != self.member:
            raise Refused("handed to another member")
        secret = unwrap(unsealer, HIDING_KEY, _digest(_to_map(self.realm, self.member, self.key)), self.wrapped)
        if derive_hiding_key_id(secret, realm=self.realm) != self.key.check:
            raise Refused("another key-hiding key than the record names")
        return secret


def hand_out(realm: str, secret: bytes, key_id: bytes | None, member: PublicKeys, authority: Signer) -> Signed:
    """The signed record. `key_id` is None for a key of the authority's own, whose id is derived.

    Raises Malformed for a key of another length, or a member with another KEM suite than the realm's.
    """
    if len(secret) != HIDING_KEY_LENGTH:
        raise Malformed("hiding: length of the key-hiding key")
    if member.suite is not authority.public.suite:
        raise Malformed("hiding: its member has another KEM suite than the realm")
    check = derive_hiding_key_id(secret, realm=realm)
    fields = _to_map(realm, member.id, HidingKeyName(check if key_id is None else key_id, check))
    (wrap,) = wrap_for([member], HIDING_KEY, _digest(fields), secret)
    return sign(RecordType.HIDING, fields | {5: wrap.wrapped}, authority)


class HandedOut:
    """Who was handed which key: verified records only. For this node its own record stays, the newest of its key."""

    def __init__(self, me: bytes | None) -> None:
        self.own: Handed | None = None
        self._me = me
        self._names: dict[bytes, tuple[HidingKeyName, ...]] = {}
        self._all: set[HidingKeyName] = set()
        self._hashes: set[bytes] = set()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._hashes

    def add(self, handed: Handed, digest: bytes) -> None:
        """A verified one. Of several keys for this node the first one stays."""
        self._hashes.add(digest)
        self._all.add(handed.key)
        known = self._names.get(handed.member, ())
        if handed.key not in known:
            self._names[handed.member] = (*known, handed.key)
        if handed.member == self._me and (self.own is None or self.own.key == handed.key):
            self.own = handed

    def keys_of(self, member: bytes) -> tuple[HidingKeyName, ...]:
        """All that a member was ever handed: one, unless two copies of an authority were at work."""
        return self._names.get(member, ())

    def all(self) -> frozenset[HidingKeyName]:
        """All that anybody was handed."""
        return frozenset(self._all)

    def conflict(self, live: Collection[bytes]) -> Alarm | None:
        """Two keys among those who are members now: the same record key would be hidden in two ways."""
        if len(self._all) <= 1:
            return None
        names = sorted({name for member in live for name in self._names.get(member, ())})
        if len(names) <= 1:
            return None
        shown = " and ".join(name.id.hex() for name in names)
        return Alarm(AlarmKind.HIDING_KEY, b"", f"the authority handed out several key-hiding keys: {shown}")


def _to_map(realm: str, member: bytes, key: HidingKeyName) -> dict[int, object]:
    return {1: realm, 2: member, 3: key.id, 4: key.check}


def _digest(fields: dict[int, object]) -> bytes:
    return hashlib.sha256(cbor.encode(fields)).digest()
