"""What is wrong with the topic as a whole: the alarms (FORMAT.md, sections 5, 6 and 8)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kveil.protocol.identity.alarms import Alarm, AlarmKind
from kveil.protocol.identity.beacon import Beacon
from kveil.protocol.identity.chains import Chain, Chains
from kveil.protocol.identity.checkpoint import Checkpoint
from kveil.protocol.identity.checkpoints import Checkpoints
from kveil.protocol.identity.hiding import HandedOut
from kveil.protocol.identity.marks import Head
from kveil.protocol.identity.members import Members
from kveil.protocol.identity.moments import moment
from kveil.protocol.identity.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Looks at one state of knowledge. Until the topic was read to its end nothing counts as missing."""

    checkpoints: Checkpoints
    members: Members
    chains: Chains
    watch: Watch
    handed: HandedOut
    at_end: bool

    def stop(self) -> Alarm | None:
        """Why nothing more may be sealed or newly opened."""
        producers = self.members.producers(self.checkpoints.newest)
        return self.checkpoints.fork(producers) or (self.checkpoints.rollback() if self.at_end else None)

    def freeze(self, now: int) -> Alarm | None:
        """Why nothing more may be sealed, though all that is there is right."""
        newest = self.checkpoints.newest
        if newest is not None and newest.expired(now):
            times = f"expired at {moment(newest.expires)}, and this host's clock says {moment(now)}"
            return Alarm(AlarmKind.FREEZE, b"", f"checkpoint {newest.number} {times}")
        return None

    def all(self, now: int) -> Iterator[Alarm]:
        """Every alarm that there is now."""
        newest = self.checkpoints.newest
        yield from (alarm for alarm in (self.stop(), self.freeze(now)) if alarm is not None)
        if newest is not None and self.at_end:
            yield from self._withheld(newest)
        yield from self._equivocation()
        if (unlike := self.hiding_key()) is not None:
            yield unlike
        for answer in self.watch.reused():
            yield Alarm(AlarmKind.TICKET_REUSED, answer.ticket_id, f"used by another before {answer.node.hex()} came")

    def hiding_key(self) -> Alarm | None:
        """Why no record's key may be hidden: members were handed unlike keys for it."""
        return self.handed.conflict(self.members.live(self.checkpoints.newest))

    def _withheld(self, newest: Checkpoint) -> Iterator[Alarm]:
        producers = self.members.producers(newest)
        if (ahead := self.checkpoints.ahead(producers)) is not None:
            yield ahead
        for serial in self.members.missing(newest):
            yield Alarm(AlarmKind.WITHHELD, b"", f"the credential with serial {serial} isn't there")
        heads = {(one.id, chain): head for one in newest.ended for chain, head in one.chains.items()}
        for place in self.chains.chains.keys() | heads.keys() | self.watch.beacons.keys():
            upto = self._upto(place, heads.get(place), live=place[0] in producers)
            missing = self.chains.chains.get(place, Chain()).missing(upto)
            if missing is not None:
                yield Alarm(
                    AlarmKind.WITHHELD, place[0], f"announcement {missing} of chain {place[1].hex()} isn't there"
                )

    def _beacon(self, place: tuple[bytes, bytes]) -> Beacon | None:
        """The newest of a process, if it names a credential of its producer's."""
        found = self.watch.beacons.get(place)
        return found if found is not None and self.members.is_of(found.credential, found.producer) else None

    def _upto(self, place: tuple[bytes, bytes], head: Head | None, *, live: bool) -> int:
        """How far a chain goes: a live producer's by all that says so, an ended one's by its end alone."""
        listed = 0 if head is None else head.sequence
        if not live:
            return listed
        chain, beacon = self.chains.chains.get(place), self._beacon(place)
        return max(listed, 0 if chain is None else chain.top, 0 if beacon is None else beacon.head.sequence)

    def _equivocation(self) -> Iterator[Alarm]:
        """Of live producers: one that has ended can sign what it likes, and nothing of it counts."""
        producers = self.members.producers(self.checkpoints.newest)
        found = {producer: detail for producer, detail in self.chains.equivocated.items() if producer in producers}
        found |= {one: "signed two beacons of one number" for one in self.watch.twice if one in producers}
        for producer, name in self.watch.beacons:
            chain, beacon = self.chains.chains.get((producer, name)), self._beacon((producer, name))
            first = None if chain is None or beacon is None else chain.first(beacon.head.sequence)
            if producer in producers and beacon and first is not None and first.hash != beacon.head.hash:
                found[producer] = f"its beacon names another record {beacon.head.sequence} of chain {name.hex()}"
        for producer, detail in sorted(found.items()):
            yield Alarm(AlarmKind.EQUIVOCATION, producer, detail)
