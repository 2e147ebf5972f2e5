"""Records of the control topic, folded into one state (FORMAT.md, sections 3 to 9).

    record ─▶ shape, realm, signer known? ─▶ signature ─▶ state ─▶ questions
                          └ no: waits, within a bound

Records may come in any order and any number of times. Nothing is believed that isn't verified, and nothing that was
verified is forgotten because the topic doesn't have it any more. Times are arguments; nothing here is written to disk:
whoever follows the topic writes `to_keep` and then says so with `keep`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

from kveil.protocol.identity.announcement import Announcement
from kveil.protocol.identity.beacon import Beacon
from kveil.protocol.identity.chains import Announced, Chains
from kveil.protocol.identity.checkpoint import Checkpoint
from kveil.protocol.identity.checkpoints import Checkpoints
from kveil.protocol.identity.credential import Credential
from kveil.protocol.identity.enrolment import Answer, Enrolment
from kveil.protocol.identity.errors import IdentityError, Refused
from kveil.protocol.identity.hiding import Handed, HandedOut
from kveil.protocol.identity.identity import PublicKeys
from kveil.protocol.identity.marks import Kept
from kveil.protocol.identity.members import Members
from kveil.protocol.identity.record import IdentityRecord, Record, decode_record
from kveil.protocol.identity.regrant import Regrant
from kveil.protocol.identity.waiting import Waiting
from kveil.protocol.identity.watch import Regranted, Watch
from kveil.protocol.identity.wrapping import Wrap, wrap_length


class Outcome(StrEnum):
    """What became of a record, for counters."""

    TAKEN = "taken"
    KNOWN = "known"  # seen before, or older than what is there
    WAITING = "waiting"  # its signer isn't known yet
    PASSED = "passed"  # nothing that a view keeps: an enrolment, somebody's identity, a null value
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of a record, and of those that had waited for it. A PASSED record isn't verified."""

    outcome: Outcome
    reason: str = ""
    record: Record | Enrolment | None = field(default=None, repr=False)
    released: tuple[Applied, ...] = field(default=(), repr=False)

    def all(self) -> Iterator[Applied]:
        """Itself, and what became of those that had waited."""
        yield self
        for released in self.released:
            yield from released.all()


class Fold:
    """The state, and what comes into it."""

    def __init__(
        self,
        *,
        realm: str,
        authority: bytes,
        me: bytes | None = None,
        kept: Kept | None = None,
        authority_keys: PublicKeys | None = None,
    ) -> None:
        if authority_keys is not None and authority_keys.id != authority:
            raise ValueError("keys of another authority")
        self.realm = realm
        self.authority = authority
        self.authority_keys = authority_keys
        self._me = me
        self._checkpoints = Checkpoints(kept)
        self._members = Members()
        self._chains = Chains()
        self._watch = Watch()
        self._handed = HandedOut(me)
        self._waiting = Waiting()
        self._at_end = False

    def apply(self, value: bytes | None) -> Applied:
        """Takes in the value of one record. Never raises for what it says."""
        if value is None:
            return Applied(outcome=Outcome.PASSED)
        try:
            record = decode_record(value, self.realm)
        except IdentityError as error:
            return Applied(outcome=Outcome.REFUSED, reason=error.reason)
        if isinstance(record, Enrolment):
            return Applied(outcome=Outcome.PASSED, record=record)
        return self._apply(record, value)

    def reached_end(self) -> None:
        """The topic was read to its end once: from now on what is missing is missing."""
        self._at_end = True

    @property
    def reread_wanted(self) -> bool:
        """Records were dropped that could be told from garbage now: read the topic once more, from its start."""
        return self._waiting.reread_wanted

    def reading_again(self) -> None:
        self._waiting.reading_again()

    @property
    def to_keep(self) -> Kept | None:
        """The checkpoint that counts as soon as its number and hash are on disk."""
        return self._checkpoints.to_keep

    def keep(self, kept: Kept) -> None:
        """It is on disk."""
        self._checkpoints.keep(kept)

    def _apply(self, record: Record, value: bytes) -> Applied:
        signed, body = record
        if isinstance(body, IdentityRecord) and (body.keys.id != self.authority or self.authority_keys is not None):
            return Applied(outcome=Outcome.PASSED, record=record)
        if isinstance(body, Credential | Checkpoint | Answer | Handed) and signed.signer != self.authority:
            return Applied(outcome=Outcome.REFUSED, reason="not signed by the authority")
        if any(signed.hash in known for known in (self._chains, self._members, self._watch, self._handed)):
            return Applied(outcome=Outcome.KNOWN)
        keys = body.keys if isinstance(body, IdentityRecord) else self._keys_of(signed.signer)
        if keys is None:
            self._waiting.add(signed, value)
            return Applied(outcome=Outcome.WAITING)
        try:
            signed.verify(keys)
            outcome, known = self._take(record)
        except IdentityError as error:
            return Applied(outcome=Outcome.REFUSED, reason=error.reason)
        waited = self._waiting.take(known) if known is not None else []
        return Applied(outcome=outcome, record=record, released=tuple(map(self.apply, waited)))

    def _keys_of(self, signer: bytes) -> PublicKeys | None:
        return self.authority_keys if signer == self.authority else self._members.keys_of(signer)

    def _take(self, record: Record) -> tuple[Outcome, bytes | None]:
        """The outcome for a verified record, and whose keys have become known by it."""
        signed, body = record
        known, new = None, True
        match body:
            case IdentityRecord(keys=keys):
                self.authority_keys, known = keys, keys.id
            case Credential():
                if self.authority_keys is None or body.keys.signs_twice != self.authority_keys.signs_twice:
                    raise Refused("its subject doesn't sign as the realm does")
                known = body.subject if self._members.add(body, signed.hash) else None
            case Checkpoint():
                new = self._checkpoints.add(body, signed.hash)
            case Announcement():
                self._take_announcement(body, signed.hash)
            case Regrant():
                own = replace(body, wraps=self._own(body.wraps))
                self._watch.add_regrant(Regranted(regrant=own, hash=signed.hash, recipients=self._ids(body)))
            case Beacon():
                new = self._take_beacon(body, signed.hash)
            case Answer():
                self._watch.add_answer(body)
            case Handed():
                self._take_handed(body, signed.hash)
        return Outcome.TAKEN if new else Outcome.KNOWN, known

    def _take_beacon(self, body: Beacon, digest: bytes) -> bool:
        """Whether it is the newest of its chain."""
        named = self._members.credential(body.credential)
        if named is not None and named.subject != body.producer:
            raise Refused("the credential that it names is another's")
        is_newest = self._watch.add_beacon(body, digest)
        self._checkpoints.claim(body.checkpoint, body.producer)
        return is_newest

    def _take_announcement(self, body: Announcement, digest: bytes) -> None:
        producer = body.epoch.producer
        announced = Announced(
            announcement=replace(body, wraps=self._own(body.wraps)), hash=digest, recipients=self._ids(body)
        )
        if not self._chains.has_room(producer) or not self._chains.add(announced):
            raise Refused("too many of this producer")
        self._checkpoints.claim(body.epoch.checkpoint, producer)

    def _take_handed(self, body: Handed, digest: bytes) -> None:
        if self.authority_keys is None or len(body.wrapped) != wrap_length(self.authority_keys.suite):
            raise Refused("wrapped for another KEM suite than the realm's")
        self._handed.add(body, digest)

    def _own(self, wraps: tuple[Wrap, ...]) -> tuple[Wrap, ...]:
        return tuple(wrap for wrap in wraps if wrap.recipient == self._me)

    def _ids(self, body: Announcement | Regrant) -> tuple[bytes, ...]:
        return tuple(self._members.same(one) for one in body.recipients)
