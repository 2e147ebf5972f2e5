"""Beacons, regrants and answers, the newest of each (FORMAT.md, sections 6, 8 and 9)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from kveil.protocol.identity.beacon import Beacon
from kveil.protocol.identity.enrolment import Answer, Reason
from kveil.protocol.identity.errors import Refused
from kveil.protocol.identity.regrant import Regrant

MOST_BEACONS = 16_384  # chains: one for each process that ever was
MOST_REGRANTS = 1_024  # of one kid
MOST_ANSWERS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Regranted:
    """A verified regrant, with the wrap for this node only."""

    regrant: Regrant = field(repr=False)
    hash: bytes
    recipients: tuple[bytes, ...] = field(repr=False)


class Watch:
    """Verified ones only; bounded, since a member could make them without end."""

    def __init__(self) -> None:
        self.beacons: dict[tuple[bytes, bytes], Beacon] = {}
        self.answers: dict[tuple[bytes, bytes], Answer] = {}
        self.twice: set[bytes] = set()  # producers with two beacons of one number
        self._hashes: dict[tuple[bytes, bytes], bytes] = {}
        self._regrants: dict[bytes, dict[bytes, Regranted]] = {}
        self._regrant_hashes: set[bytes] = set()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._regrant_hashes

    def add_beacon(self, beacon: Beacon, digest: bytes) -> bool:
        """Whether it is the newest of its chain. Raises Refused where there are too many."""
        place = beacon.producer, beacon.chain
        known = self.beacons.get(place)
        if known is None and len(self.beacons) >= MOST_BEACONS:
            raise Refused("too many beacons")
        if known is not None and known.number >= beacon.number:
            if known.number == beacon.number and self._hashes[place] != digest:
                self.twice.add(beacon.producer)
            return False
        self.beacons[place], self._hashes[place] = beacon, digest
        return True

    def add_regrant(self, made: Regranted) -> None:
        """Raises Refused where there are too many."""
        same = self._regrants.setdefault(made.regrant.kid, {})
        if len(same) >= MOST_REGRANTS:
            raise Refused("too many regrants of one kid")
        same[made.hash] = made
        self._regrant_hashes.add(made.hash)

    def regrants(self, kid: bytes) -> Iterator[Regranted]:
        """In the order in which they were read."""
        yield from self._regrants.get(kid, {}).values()

    def add_answer(self, answer: Answer) -> None:
        """Raises Refused where there are too many."""
        if len(self.answers) >= MOST_ANSWERS:
            raise Refused("too many answers")
        self.answers[answer.ticket_id, answer.node] = answer

    def reused(self) -> Iterator[Answer]:
        """Answers to those who came with a ticket that another had used."""
        return (answer for answer in self.answers.values() if answer.reason is Reason.USED)
