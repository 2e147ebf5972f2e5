"""The roll of a realm: who is a member, for how long, and what the next checkpoint says.

Nothing here reads, writes or waits. Times are seconds since 1970.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from kveil.protocol.identity.checkpoint import Checkpoint, Ended
from kveil.protocol.identity.credential import MAX_SECONDS, SKEW_SECONDS, Credential, Grant, Role
from kveil.protocol.identity.crypto import KemSuite
from kveil.protocol.identity.errors import IdentityError as ProtocolError
from kveil.protocol.identity.hiding import Handed
from kveil.protocol.identity.identity import Identity, PublicKeys, format_fingerprint
from kveil.protocol.identity.progress import Mark
from kveil.protocol.identity.record import sign_body
from kveil.protocol.identity.signing import NO_HASH, Signed
from kveil.proxy.admin.audit import AuditType
from kveil.proxy.identity.authority_reader import AuthorityReader
from kveil.proxy.identity.authority_state import (
    ROLE_WORDS,
    AuthorityState,
    Latest,
    Member,
    Revoked,
    grants_to_json,
    latest_of,
    member_of,
)
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.handing import found_or_new, new_hiding_key
from kveil.proxy.identity.moments import moment
from kveil.proxy.keys.keyfile import HidingKey

# Clocks of nodes may be slow.
NOT_BEFORE_SECONDS: Final = 300
# Of a credential's time: before two thirds, so that a week leaves two days in which the authority may be away.
RENEW_AT: Final = 0.6
# Of the lease: so that a checkpoint may come late by as much again.
CHECKPOINT_AT: Final = 0.4
# The topic may hide from a restored authority what it signed since the backup: no two may have one number.
RESTORED_SKIP: Final = 1_000
# Of all ends in a checkpoint, which must fit in a record, whatever those wrote who were ended.
MOST_MARKS: Final = 16_384


class Event(NamedTuple):
    """For the audit."""

    kind: AuditType
    subject: str
    data: dict[str, object]


def new_state(
    keys: Identity, realm: str, lease_seconds: int, now: int, hiding: HidingKey | None = None
) -> AuthorityState:
    """The beginning of a realm: a checkpoint with nobody in it. `hiding` is taken over. Raises IdentityError."""
    first = Checkpoint(
        realm=realm,
        number=1,
        previous=NO_HASH,
        created=now,
        expires=now + lease_seconds,
        live={},
        suite=keys.suite,
    )
    try:
        latest = latest_of(sign_body(first, keys))
    except ProtocolError as error:
        raise IdentityError(error.reason) from None
    own = new_hiding_key(keys, realm, hiding)
    return AuthorityState(realm=realm, lease_seconds=lease_seconds, serial=0, latest=latest, hiding=own)


class Roll:
    """One step from one state to the next. Its methods raise IdentityError for what can't be."""

    def __init__(self, keys: Identity, state: AuthorityState, now: int) -> None:
        created = state.latest.checkpoint.created
        if now + SKEW_SECONDS < created:
            raise IdentityError(
                f"this host's clock says {moment(now)}, and the newest checkpoint was signed at {moment(created)}: set "
                "the clock"
            )
        self._keys = keys
        self._now = now
        self._number = state.latest.checkpoint.number + 1
        self._ended = {one.id: one for one in state.latest.checkpoint.ended}
        self.state = state
        self.answers: list[Signed] = []
        self.events: list[Event] = []
        self._lacking: IdentityError | None = None

    # Members -----------------------------------------------------------------------------------------------------

    def have_hiding_key(self, reader: AuthorityReader) -> None:
        """Have the realm's key-hiding key, for an authority that was made, or saved, before there was one."""
        if self.state.hiding is not None:
            return
        try:
            hiding = found_or_new(self._keys, self.state.realm, reader)
        except IdentityError as error:
            self._lacking = error
            return
        self.state = replace(self.state, hiding=hiding)
        self._event("key.added", self.state.realm, kid=Handed.from_map(hiding.fields).key.id.hex())

    def check_hiding_key(self) -> None:
        """Raises IdentityError if members couldn't be handed what they need."""
        if self._lacking is not None:
            raise self._lacking

    def grant(self, keys: PublicKeys, grants: Sequence[Grant], name: str | None) -> Credential:
        """Make somebody a member, or give a member more."""
        self.check_hiding_key()
        self._check_keys(keys)
        if self.state.was_revoked(keys.id):
            raise IdentityError(
                f"{format_fingerprint(keys.id)} was revoked, and doesn't come back: its host enrols as a new identity, "
                "with another directory"
            )
        member = self.state.member(keys.id)
        chosen = self._free_name(keys.id, grants, name, member)
        before = () if member is None else member.credential.grants
        credential = self._issue(keys, chosen, joined(before, grants))
        self._event(
            "identity.granted",
            chosen,
            fingerprint=keys.id.hex(),
            serial=credential.serial,
            grants=grants_to_json(tuple(grants)),
        )
        return credential

    def revoke(self, name: str, ended: Ended | None) -> Member:
        """End a member. `ended` says how far a producer's announcements went; None for who never was one."""
        member = self.state.named(name)
        if member is None:
            there = ", ".join(sorted(one.credential.name for one in self.state.members)) or "none"
            raise IdentityError(f"there is no member {name}; there are: {there}")
        self._revoke(member, ended)
        return member

    def _revoke(self, member: Member, ended: Ended | None) -> None:
        subject, credential = member.credential.subject, member.credential
        if ended is not None:
            others = sum(len(one.marks) for one in self._ended.values() if one.id != subject)
            self._ended[subject] = replace(ended, marks=_latest(ended.marks, max(0, MOST_MARKS - others)))
        self.state = replace(
            self.state,
            members=tuple(one for one in self.state.members if one.credential.subject != subject),
            revoked=(*self.state.revoked, Revoked(subject, credential.name, credential.serial, self._now)),
        )
        self._event("identity.revoked", credential.name, fingerprint=subject.hex(), serial=credential.serial)

    def renew(self) -> None:
        """Give those a new credential whose time is getting short. Nobody's ends because the authority was away."""
        for member in self.state.members:
            old = member.credential
            if self._now >= old.not_before + RENEW_AT * (old.expires - old.not_before):
                new = self._issue(old.keys, old.name, old.grants)
                self._event("identity.renewed", old.name, fingerprint=old.subject.hex(), serial=new.serial)

    def _issue(self, keys: PublicKeys, name: str, grants: tuple[Grant, ...]) -> Credential:
        serial = self.state.serial + 1
        not_before = self._now - NOT_BEFORE_SECONDS
        try:
            credential = Credential(
                realm=self.state.realm,
                name=name,
                serial=serial,
                not_before=not_before,
                expires=not_before + MAX_SECONDS,
                keys=keys,
                grants=grants,
            )
            signed = sign_body(credential, self._keys)
        except ProtocolError as error:
            raise IdentityError(error.reason) from None
        others = tuple(one for one in self.state.members if one.credential.subject != keys.id)
        self.state = replace(self.state, serial=serial, members=(*others, member_of(signed)))
        return credential

    def _check_keys(self, keys: PublicKeys) -> None:
        if keys.id == self._keys.id:
            raise IdentityError("that is the authority itself: it is no member")
        if keys.suite is not self._keys.suite or keys.signs_twice is not self._keys.public.signs_twice:
            raise IdentityError(
                f"its keys are not of this realm's kinds ({_kinds(self._keys.public)}): it has {_kinds(keys)}. "
                "Make its identity again, for this realm"
            )

    def _free_name(self, subject: bytes, grants: Sequence[Grant], name: str | None, member: Member | None) -> str:
        if member is not None:
            if name not in {None, member.credential.name}:
                raise IdentityError(f"it is a member already, as {member.credential.name}: leave --name out")
            return member.credential.name
        chosen = name or f"{ROLE_WORDS[grants[0].role]}-{subject.hex()[:8]}"
        if self.state.named(chosen) is not None:
            raise NameTaken(f"there is a member {chosen} already: --name gives another name")
        return chosen

    # Checkpoints -------------------------------------------------------------------------------------------------

    def restore(self, newest: Latest, members: Sequence[Member], serial: int) -> None:
        """Take over what the topic has and this state, from a backup, hasn't: the newest checkpoint and who is in it.

        `serial` is the highest on the topic. Tickets of before are void: which of them were used isn't known.
        """
        listed = {one.credential.subject for one in members}
        known = {one.id for one in self.state.revoked}
        gone = [one for one in self.state.members if one.credential.subject not in listed]
        lost = [
            Revoked(one.credential.subject, one.credential.name, one.credential.serial, newest.checkpoint.created)
            for one in gone
        ]
        known |= {one.id for one in lost}
        lost += [
            Revoked(one.id, "", 0, newest.checkpoint.created) for one in newest.checkpoint.ended if one.id not in known
        ]
        self._ended = {one.id: one for one in newest.checkpoint.ended}
        self._number = newest.checkpoint.number + RESTORED_SKIP
        self.state = replace(
            self.state,
            serial=max(self.state.serial, serial, *newest.checkpoint.live, 0),
            latest=newest,
            members=tuple(members),
            revoked=(*self.state.revoked, *lost),
            tickets=(),
        )
        missing = len(newest.checkpoint.live) - len(members)
        self._event("authority.restored", self.state.realm, checkpoint=newest.checkpoint.number, missing=missing)

    def skip(self) -> None:
        """Leave numbers behind that another copy of this authority may have used."""
        self._number += RESTORED_SKIP

    def close(self, *, force: bool = False) -> bool:
        """Sign the next checkpoint if anything changed, if it is time, or if told to. Whether it did."""
        last = self.state.latest.checkpoint
        live = {one.credential.serial: one.signed.hash for one in self.state.members}
        ended = tuple(sorted(self._ended.values(), key=lambda one: one.id))
        skips = self._number != last.number + 1
        if not (force or skips or self._now >= self.due or live != last.live or ended != last.ended):
            return False
        created = max(self._now, last.created)
        made = Checkpoint(
            realm=self.state.realm,
            number=self._number,
            previous=self.state.latest.signed.hash,
            created=created,
            expires=created + self.state.lease_seconds,
            live=live,
            ended=ended,
            suite=KemSuite(last.suite),
            signatures=last.signatures,
            positions=last.positions,
        )
        self.state = replace(self.state, latest=latest_of(sign_body(made, self._keys)))
        self._number = made.number + 1
        return True

    @property
    def due(self) -> float:
        """When the next checkpoint must be signed, whatever happens."""
        last = self.state.latest.checkpoint
        return last.created + CHECKPOINT_AT * (last.expires - last.created)

    def _event(self, kind: AuditType, subject: str, /, **data: object) -> None:
        self.events.append(Event(kind, subject, data))


class NameTaken(IdentityError):
    """Another member has the name."""


def _latest(marks: Sequence[Mark], most: int) -> tuple[Mark, ...]:
    """Those of the lanes that were begun last."""
    by_lane = sorted(marks, key=lambda mark: mark.lane, reverse=True)
    return tuple(sorted(by_lane[:most]))


def produces(member: Member) -> bool:
    """Whether it may produce anything."""
    return any(grant.role is Role.PRODUCE for grant in member.credential.grants)


def joined(before: Sequence[Grant], more: Sequence[Grant]) -> tuple[Grant, ...]:
    """All of them, those of one role and history together."""
    patterns: dict[tuple[Role, object], dict[str, None]] = {}
    for grant in (*before, *more):
        patterns.setdefault((grant.role, grant.history), {}).update(dict.fromkeys(grant.patterns))
    try:
        return tuple(
            replace(grant, patterns=tuple(patterns.pop((grant.role, grant.history))))
            for grant in (*before, *more)
            if (grant.role, grant.history) in patterns
        )
    except ProtocolError as error:
        raise IdentityError(error.reason) from None


def _kinds(keys: PublicKeys) -> str:
    wrapping = "MLKEM768-X25519" if keys.suite is KemSuite.MLKEM768_X25519 else "X25519"
    return f"{wrapping}, {'two signatures' if keys.signs_twice else 'one signature'}"
