"""Becoming a member: what a node reads on the control topic, and what comes of it.

Nothing here reads files, writes or waits: `net.enrolment` does.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from kveil.protocol.identity import cbor
from kveil.protocol.identity.announcement import Announcement
from kveil.protocol.identity.credential import Credential
from kveil.protocol.identity.enrolment import Reason
from kveil.protocol.identity.errors import IdentityError as ProtocolError
from kveil.protocol.identity.errors import Malformed
from kveil.protocol.identity.fold import Outcome
from kveil.protocol.identity.identity import PublicKeys, format_fingerprint
from kveil.protocol.identity.marks import Kept
from kveil.protocol.identity.members import Standing
from kveil.protocol.identity.record import IdentityRecord, Record, decode_record
from kveil.protocol.identity.signing import RecordType
from kveil.protocol.identity.ticket import Ticket
from kveil.protocol.identity.view import View
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.moments import moment
from kveil.proxy.identity.telling import in_words

_SIGNED_PARTS: Final = 4
_AGAIN: Final = "ask for a new ticket"
_REASONS: Final = {
    Reason.NOT_KNOWN: "the authority doesn't know this ticket: it was restored from a backup since, or the ticket is "
    "long over. Ask for a new ticket",
    Reason.EXPIRED: "the authority got this ticket after it had expired: ask for a new ticket",
    Reason.USED: "this ticket was used by another node before. If that wasn't yours, somebody else has read it: tell "
    "whoever runs the authority, which has raised an alarm. Ask for a new ticket",
    Reason.NAME_TAKEN: "another member has this name: `--name` gives another one, with the same ticket",
    Reason.REFUSED: "the authority says no: somebody refused it, or this identity was revoked or isn't of the realm's "
    "kind of keys",
}


class Enrolled(NamedTuple):
    """A member now."""

    credential: Credential
    kept: Kept


class NodeReader:
    """The topic, as whoever has nothing on disk reads it (a reader of `net.topic_log`)."""

    def __init__(self, view: View, me: bytes | None = None) -> None:
        self.view = view
        self.refused = 0
        """Records that count for nothing."""
        self.announced: dict[tuple[bytes, str], Announcement] = {}
        """By producer and topic, the newest."""
        self.when_changed: Callable[[], None] = lambda: None
        """Called when all was read that stood there."""
        self._me = me

    async def get_ready(self) -> None:
        """All that it takes is there."""

    def apply(self, offset: int, key: bytes | None, value: bytes | None) -> None:  # noqa: ARG002 - these are Kafka's
        """Take one record."""
        for applied in self.view.apply(value).all():
            self.refused += applied.outcome is Outcome.REFUSED
            if applied.outcome is Outcome.TAKEN and isinstance(applied.record, Record):
                self._take(applied.record)
        while self.view.to_keep is not None:
            self.view.keep(self.view.to_keep)  # nothing is done by it before it is on disk

    def _take(self, record: Record) -> None:
        if isinstance(record.body, Announcement):
            epoch = record.body.epoch
            known = self.announced.get((epoch.producer, epoch.topic))
            if known is None or known.epoch.created <= epoch.created:
                self.announced[epoch.producer, epoch.topic] = record.body

    def heard(self) -> None:
        """All was read that stood on the topic a moment ago."""
        self.view.reached_end()
        self.when_changed()


class RealmFinder:
    """Finds the realm of an authority, of which only the fingerprint was told."""

    def __init__(self, authority: bytes) -> None:
        self._authority = authority
        self.realm: str | None = None

    async def get_ready(self) -> None:
        """All that it takes is there."""

    def apply(self, offset: int, key: bytes | None, value: bytes | None) -> None:  # noqa: ARG002 - these are Kafka's
        """Take one record."""
        if value is not None and value[1:2] == bytes((RecordType.IDENTITY,)):
            with suppress(ProtocolError):
                self.realm = self._read(value) or self.realm

    def heard(self) -> None:
        """All was read that stood on the topic a moment ago."""

    def _read(self, value: bytes) -> str | None:
        parts = cbor.as_list(cbor.decode(value[2:], "identity"), "identity", length=_SIGNED_PARTS)
        fields = cbor.decode(cbor.as_bytes(parts[2], "identity"), "identity")
        realm = fields.get(1) if isinstance(fields, dict) else None
        if not isinstance(realm, str):
            raise Malformed("identity: no realm")
        record = decode_record(value, realm)
        if not isinstance(record, Record) or not isinstance(record.body, IdentityRecord):
            return None
        if record.body.keys.id != self._authority:
            return None
        record.signed.verify(record.body.keys)
        return realm


def read_ticket(text: str, now: int) -> Ticket:
    """From its text. Raises IdentityError, which holds nothing of it."""
    try:
        ticket = Ticket.from_text(text)
    except Malformed as error:
        raise IdentityError(
            f"that is no ticket: {error.reason}. It is the line that `kveil authority ticket` writes"
        ) from None
    if now > ticket.expires:
        raise IdentityError(
            f"the ticket expired at {moment(ticket.expires)}, and this host's clock says {moment(now)}: {_AGAIN}, or "
            "set the clock if it is wrong"
        )
    return ticket


def authority_keys(view: View) -> PublicKeys:
    """The authority's keys, once the topic was read to its end. Raises IdentityError."""
    if (alarm := view.opening_stop()) is not None:
        raise IdentityError(in_words(alarm))
    if view.authority_keys is None:
        raise IdentityError(
            f"the topic doesn't have the keys of the authority {format_fingerprint(view.authority)} of realm "
            f"{view.realm}: is this its cluster, and has `kveil authority run` or `checkpoint` been there?"
        )
    return view.authority_keys


def outcome(view: View, me: bytes, ticket_id: bytes | None, now: int) -> Enrolled | None:
    """What came of it by now: None if nothing yet. Raises IdentityError if nothing will."""
    if (alarm := view.opening_stop()) is not None:
        raise IdentityError(in_words(alarm))
    standing, listed, kept = view.standing(me, now), view.live().get(me), view.kept
    if listed is not None and kept is not None:
        if standing is Standing.LIVE:
            check_clock(view, now)
            return Enrolled(listed.credential, kept)
        if standing in {Standing.NOT_YET, Standing.EXPIRED}:
            credential = listed.credential
            raise IdentityError(
                f"{standing}: it counts from {moment(credential.not_before)} to {moment(credential.expires)}, and this "
                f"host's clock says {moment(now)}. Set the clock if it is wrong; else the authority must run, which "
                "renews credentials"
            )
    answer = None if ticket_id is None else view.answer(ticket_id, me)
    if answer is not None:
        raise IdentityError(_REASONS[answer.reason])
    return None


def check_clock(view: View, now: int) -> None:
    """Raises IdentityError if the newest checkpoint isn't of this time."""
    newest = view.checkpoint
    if newest is None:
        return
    if now + 120 < newest.created:
        raise IdentityError(
            f"the newest checkpoint was signed at {moment(newest.created)}, and this host's clock says {moment(now)}: "
            "set the clock"
        )
    if newest.expired(now):
        raise IdentityError(
            f"the newest checkpoint expired at {moment(newest.expires)}, and this host's clock says {moment(now)}. Set "
            "the clock if it is wrong; else the authority must run, which signs the next one, or the cluster holds it "
            "back"
        )


def silence(me: bytes, refused: int, *, by_ticket: bool, seconds: float) -> str:
    """Why nothing may have come of it in so long a time."""
    garbage = f" {refused} records on the topic count for nothing." if refused else ""
    if by_ticket:
        return (
            f"no answer from the authority within {seconds:.0f} s: is `kveil authority run` running, on this cluster? "
            f"The ticket may be used again with the same command until it expires.{garbage}"
        )
    return (
        f"the authority hasn't granted anything yet, {seconds:.0f} s long. Whoever runs it does so with\n"
        f"  kveil authority grant '{format_fingerprint(me)}' --role … --topics …\n"
        f"and then this command again, with the same options, finds the credential.{garbage}"
    )
