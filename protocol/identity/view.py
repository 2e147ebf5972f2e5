"""What a node believes, as answers to those who seal, open and watch (FORMAT.md, sections 4 to 9).

Times are arguments. What counts is judged when it is asked: the next checkpoint may end it.
"""

from __future__ import annotations

from collections.abc import Mapping

from kveil.protocol.identity.alarms import Alarm, AlarmKind
from kveil.protocol.identity.beacon import Beacon
from kveil.protocol.identity.chains import Announced
from kveil.protocol.identity.checkpoint import Checkpoint, Ended
from kveil.protocol.identity.credential import Credential
from kveil.protocol.identity.enrolment import Answer
from kveil.protocol.identity.findings import Findings
from kveil.protocol.identity.fold import Applied, Fold, Outcome
from kveil.protocol.identity.hiding import Handed, HidingKeyName
from kveil.protocol.identity.judging import Judge, Judged, Verdict
from kveil.protocol.identity.marks import Head, Kept
from kveil.protocol.identity.members import Listed, Recipient, Standing
from kveil.protocol.identity.watch import Regranted

__all__ = ["Applied", "Outcome", "Standing", "Verdict", "View"]


class View(Fold):
    """What a node believes. `me` is its id: of others' wraps nothing is kept. `authority` is the id that it was told,
    `kept` what it has on disk, or what its ticket says.
    """

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The newest that is kept on disk: what counts."""
        return self._checkpoints.newest

    @property
    def kept(self) -> Kept | None:
        """What is on disk, as far as this view was told."""
        return self._checkpoints.kept

    def alarms(self, now: int) -> tuple[Alarm, ...]:
        """All that there are now."""
        return tuple(self._findings.all(now))

    def sealing_stop(self, now: int) -> Alarm | None:
        """Why nothing may be sealed; None if it may. That the node itself is live is `standing`'s to say."""
        if self.checkpoint is None and self._findings.stop() is None:
            return Alarm(AlarmKind.FREEZE, b"", "no checkpoint was seen")
        return self._findings.stop() or self._findings.freeze(now)

    def opening_stop(self) -> Alarm | None:
        """Why nothing may be opened that isn't open already."""
        return self._findings.stop()

    def standing(self, subject: bytes, now: int) -> Standing:
        return self._members.standing(subject, self.checkpoint, now)

    def live(self) -> Mapping[bytes, Listed]:
        """Credentials that the checkpoint lists, by subject, whatever the time."""
        return self._members.live(self.checkpoint)

    def credential(self, digest: bytes) -> Credential | None:
        """A credential that the authority signed, live or not."""
        return self._members.credential(digest)

    def recipients(self, topic: str, now: int) -> tuple[Recipient, ...]:
        """Who gets the topic's keys, ascending by id."""
        return self._members.recipients(topic, self.checkpoint, now)

    def kids(self) -> tuple[bytes, ...]:
        """All that were announced, whether that counts or not: for keepers."""
        return self._chains.kids()

    def announcements(self, kid: bytes) -> tuple[Judged, ...]:
        """All with this kid, those that count first. An insider may name another's: its key then isn't the kid's."""
        judged = (self._judged(one) for one in self._chains.of_kid(kid))
        return tuple(sorted(judged, key=lambda one: one.verdict is not Verdict.ACCEPTED))

    def announcement(self, digest: bytes) -> Judged | None:
        """By the hash of its record."""
        announced = self._chains.by_hash(digest)
        return None if announced is None else self._judged(announced)

    def has_room(self, producer: bytes) -> bool:
        """Whether a further announcement of it would be taken."""
        return self._chains.has_room(producer)

    def regrants(self, kid: bytes) -> tuple[tuple[Regranted, Judged], ...]:
        """Those that count, each with the announcement that its key is checked against."""
        made = ((one, self._judge.regrant(one.regrant)) for one in self._watch.regrants(kid))
        counting = tuple((one, judged) for one, judged in made if judged is not None)
        return () if self.opening_stop() else tuple(pair for pair in counting if pair[1].verdict is Verdict.ACCEPTED)

    def head(self, producer: bytes, chain: bytes) -> Head | None:
        """How far the topic has a producer's chain: beyond its own state, that was rolled back."""
        found = self._chains.chains.get((producer, chain))
        last = None if found is None else found.first(found.top)
        return None if last is None else Head(last.announcement.epoch.sequence, last.hash)

    def heads(self, producer: bytes) -> dict[bytes, Head]:
        """The same for all of its chains: what its end lists."""
        chains = [chain for owner, chain in self._chains.chains if owner == producer]
        return {chain: head for chain in chains if (head := self.head(producer, chain)) is not None}

    def beacon(self, producer: bytes, chain: bytes) -> Beacon | None:
        """The newest of a live producer's process, if it names a credential of its producer's."""
        found = self._watch.beacons.get((producer, chain))
        if found is None or producer not in self._members.producers(self.checkpoint):
            return None
        return found if self._members.is_of(found.credential, producer) else None

    def ended(self, producer: bytes) -> Ended | None:
        """What the checkpoint says of a producer that isn't one any more."""
        return self._judge.ended(producer)

    def answer(self, ticket_id: bytes, node: bytes) -> Answer | None:
        """Why a node got no credential."""
        return self._watch.answers.get((ticket_id, node))

    @property
    def handed(self) -> Handed | None:
        """The key-hiding key, as the authority handed it to this node."""
        return self._handed.own

    def handed_to(self, member: bytes) -> tuple[HidingKeyName, ...]:
        """The key-hiding keys that somebody was handed: one, or none yet, if all is well."""
        return self._handed.keys_of(member)

    def handed_out(self) -> frozenset[HidingKeyName]:
        """The key-hiding keys that anybody was handed."""
        return self._handed.all()

    def hiding_stop(self) -> Alarm | None:
        """Why no record's key may be hidden."""
        return self._findings.hiding_key()

    def _judged(self, announced: Announced) -> Judged:
        if (stop := self.opening_stop()) is not None:
            return Judged(announced=announced, verdict=Verdict.NOT_YET, reason=f"{stop.kind}: {stop.detail}")
        return self._judge.announcement(announced)

    @property
    def _judge(self) -> Judge:
        return Judge(self._members, self.checkpoint, self._chains)

    @property
    def _findings(self) -> Findings:
        return Findings(
            checkpoints=self._checkpoints,
            members=self._members,
            chains=self._chains,
            watch=self._watch,
            handed=self._handed,
            at_end=self._at_end,
        )
