"""Whether an announcement or a regrant counts, by what is known now (FORMAT.md, section 8).

It is asked each time: a checkpoint may end what counted, and credentials may come after what names them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from kveil.protocol.identity.chains import Announced, Chains
from kveil.protocol.identity.checkpoint import Checkpoint, Ended
from kveil.protocol.identity.credential import Credential, Role
from kveil.protocol.identity.members import Listed, Members
from kveil.protocol.identity.progress import Mark
from kveil.protocol.identity.regrant import Regrant


class Verdict(StrEnum):
    """What to do with a batch under such a key."""

    ACCEPTED = "accepted"
    NOT_YET = "not yet"  # more records may change it: retriable
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """An announcement with its verdict. `closed_at`: of its batches those up to these marks count; None: all."""

    announced: Announced
    verdict: Verdict
    reason: str = ""
    closed_at: tuple[Mark, ...] | None = field(default=None, repr=False)


class Judge:
    """Judges by one state of knowledge."""

    def __init__(self, members: Members, checkpoint: Checkpoint | None, chains: Chains) -> None:
        self._members = members
        self._checkpoint = checkpoint
        self._chains = chains

    @property
    def _live(self) -> Mapping[bytes, Listed]:
        return self._members.live(self._checkpoint)

    def ended(self, producer: bytes) -> Ended | None:
        """What the newest checkpoint says of a producer that isn't one any more."""
        if self._checkpoint is None:
            return None
        return next((one for one in self._checkpoint.ended if one.id == producer), None)

    def announcement(self, announced: Announced) -> Judged:
        epoch = announced.announcement.epoch
        credential = self._members.credential(epoch.credential)
        if credential is None:
            return _not_yet(announced, "the credential that it names isn't known")
        if self._checkpoint is None:
            return _not_yet(announced, "there is no checkpoint")
        if reason := _refusal(announced, credential):
            return _refused(announced, reason)
        listed, ended = self._live.get(epoch.producer), self.ended(epoch.producer)
        live = listed is not None and listed.credential.may(Role.PRODUCE, epoch.topic)
        if live and self._chains.is_first(announced):
            return _accepted(announced)
        if ended is not None:
            linked = self._linked(announced, ended)
            if announced.hash in linked:
                return _accepted(announced, None if live else self._closed(announced, ended, linked))
        if live:
            return _refused(announced, "another with its kid or its place was read before")
        return self._not_live(announced, credential, ended)

    def _not_live(self, announced: Announced, credential: Credential, ended: Ended | None) -> Judged:
        epoch = announced.announcement.epoch
        if ended is not None:
            head = ended.chains.get(epoch.chain)
            if head is None or epoch.sequence > head.sequence:
                return _refused(announced, "its producer had ended")
            chain = self._chains.chain_of(announced)
            if len(chain.linked(head)) + epoch.sequence <= head.sequence:
                return _not_yet(announced, "records between it and its producer's end are missing")
            return _refused(announced, "not the one that its producer's end lists")
        if self._checkpoint is not None and credential.serial > max(self._checkpoint.live, default=0):
            return _not_yet(announced, "no checkpoint lists its credential yet")
        return _refused(announced, "its producer isn't live")

    def _linked(self, announced: Announced, ended: Ended) -> frozenset[bytes]:
        head = ended.chains.get(announced.announcement.epoch.chain)
        return frozenset() if head is None else self._chains.chain_of(announced).linked(head)

    def _closed(self, announced: Announced, ended: Ended, linked: Collection[bytes]) -> tuple[Mark, ...] | None:
        """How far the batches of a producer that has ended count. None: nobody knows where they end."""
        epoch, kid = announced.announcement.epoch, announced.announcement.kid
        if not epoch.positions:
            return None
        for later in self._chains.replaced_by(announced):
            ending = later.announcement.epoch.replaces
            if ending is not None and later.hash in linked and later.announcement.epoch.chain == epoch.chain:
                return ending.marks
        last = self._chains.by_hash(ended.chains[epoch.chain].hash)
        if last is not None and epoch.sequence < last.announcement.epoch.first:
            return None  # another process's, which was over by then
        return tuple(mark for mark in ended.marks if mark.kid == kid)

    def regrant(self, made: Regrant) -> Judged | None:
        """The verdict on the announcement that it is of; None if that isn't there, or the keeper isn't one."""
        announced = self._chains.by_hash(made.announcement)
        credential, listed = self._members.credential(made.credential), self._live.get(made.keeper)
        if announced is None or credential is None or listed is None or credential.subject != made.keeper:
            return None
        if not (credential.may(Role.KEEPER, made.topic) and listed.credential.may(Role.KEEPER, made.topic)):
            return None
        if (made.kid, made.topic) != (announced.announcement.kid, announced.announcement.epoch.topic):
            return None
        return self.announcement(announced)


def _refusal(announced: Announced, credential: Credential) -> str:
    epoch = announced.announcement.epoch
    if credential.subject != epoch.producer:
        return "the credential that it names is another's"
    if not credential.may(Role.PRODUCE, epoch.topic):
        return "its producer wasn't granted the topic"
    if not credential.covers_time(epoch.created):
        return "created outside the time of its producer's credential"
    return ""


def _accepted(announced: Announced, closed_at: tuple[Mark, ...] | None = None) -> Judged:
    return Judged(announced=announced, verdict=Verdict.ACCEPTED, closed_at=closed_at)


def _not_yet(announced: Announced, reason: str) -> Judged:
    return Judged(announced=announced, verdict=Verdict.NOT_YET, reason=reason)


def _refused(announced: Announced, reason: str) -> Judged:
    return Judged(announced=announced, verdict=Verdict.REFUSED, reason=reason)
