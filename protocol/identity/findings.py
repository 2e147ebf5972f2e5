"""What is wrong with the topic as a whole: the alarms (FORMAT.md, sections 5, 6 and 8)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kveil.protocol.identity.alarms import Alarm, AlarmKind
from kveil.protocol.identity.chains import Chain, Chains
from kveil.protocol.identity.checkpoint import Checkpoint
from kveil.protocol.identity.checkpoints import Checkpoints
from kveil.protocol.identity.marks import Head
from kveil.protocol.identity.members import Members
from kveil.protocol.identity.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Looks at one state of knowledge. Until the topic was read to its end nothing counts as missing."""

    checkpoints: Checkpoints
    members: Members
    chains: Chains
    watch: Watch
    at_end: bool

    def stop(self) -> Alarm | None:
        """Why nothing more may be sealed or newly opened."""
        live = self.members.live(self.checkpoints.newest)
        return self.checkpoints.fork(live) or (self.checkpoints.rollback() if self.at_end else None)

    def freeze(self, now: int) -> Alarm | None:
        """Why nothing more may be sealed, though all that is there is right."""
        newest = self.checkpoints.newest
        if newest is not None and newest.expired(now):
            return Alarm(AlarmKind.FREEZE, b"", f"checkpoint {newest.number} expired at {newest.expires}, it is {now}")
        return None

    def all(self, now: int) -> Iterator[Alarm]:
        """Every alarm that there is now."""
        newest = self.checkpoints.newest
        yield from (alarm for alarm in (self.stop(), self.freeze(now)) if alarm is not None)
        if newest is not None and self.at_end:
            yield from self._withheld(newest)
        yield from self._equivocation()
        for answer in self.watch.reused():
            yield Alarm(AlarmKind.TICKET_REUSED, answer.ticket_id, f"used by another before {answer.node.hex()} came")

    def _withheld(self, newest: Checkpoint) -> Iterator[Alarm]:
        live = self.members.live(newest)
        if (ahead := self.checkpoints.ahead(live)) is not None:
            yield ahead
        for serial in self.members.missing(newest):
            yield Alarm(AlarmKind.WITHHELD, b"", f"the credential with serial {serial} isn't there")
        heads = {(one.id, chain): head for one in newest.ended for chain, head in one.chains.items()}
        for place in self.chains.chains.keys() | heads.keys() | self.watch.beacons.keys():
            upto = self._upto(place, heads.get(place)) if place[0] in live else getattr(heads.get(place), "sequence", 0)
            missing = self.chains.chains.get(place, Chain()).missing(upto)
            if missing is not None:
                yield Alarm(
                    AlarmKind.WITHHELD, place[0], f"announcement {missing} of chain {place[1].hex()} isn't there"
                )

    def _upto(self, place: tuple[bytes, bytes], head: Head | None) -> int:
        """How far a live producer's chain goes, by all that says so."""
        chain, beacon = self.chains.chains.get(place), self.watch.beacons.get(place)
        return max(
            0 if chain is None else chain.top,
            0 if beacon is None else beacon.head.sequence,
            0 if head is None else head.sequence,
        )

    def _equivocation(self) -> Iterator[Alarm]:
        """Of live producers: one that has ended can sign what it likes, and nothing of it counts."""
        live = self.members.live(self.checkpoints.newest)
        found = {producer: detail for producer, detail in self.chains.equivocated.items() if producer in live}
        found |= {one: "signed two beacons of one number" for one in self.watch.twice if one in live}
        for (producer, name), beacon in self.watch.beacons.items():
            chain = self.chains.chains.get((producer, name))
            first = None if chain is None else chain.first(beacon.head.sequence)
            if producer in live and first is not None and first.hash != beacon.head.hash:
                found[producer] = f"its beacon names another record {beacon.head.sequence} of chain {name.hex()}"
        for producer, detail in sorted(found.items()):
            yield Alarm(AlarmKind.EQUIVOCATION, producer, detail)
