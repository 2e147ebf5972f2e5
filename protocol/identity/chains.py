"""Announcements as they are chained: holes, two of one place, and what is linked to a listed head
(FORMAT.md, section 8).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from kveil.protocol.identity.announcement import Announcement
from kveil.protocol.identity.marks import Head

MOST_OF_ONE_PRODUCER = 65_536  # announcements: with 20 processes and topics each, half a year
_MOST_OF_ONE_PLACE = 4  # two are an equivocation already; of one that was ended the right one may come third


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Announced:
    """A verified announcement, with the wrap for this node only: all of them would be a hundred times as long."""

    announcement: Announcement = field(repr=False)
    hash: bytes
    recipients: tuple[bytes, ...] = field(repr=False)


class Chain:
    """One chain of one producer."""

    def __init__(self) -> None:
        self.places: dict[int, list[Announced]] = {}
        self._linked: tuple[Head, int, frozenset[bytes]] | None = None
        self._count = 0
        self.top = 0  # the highest sequence

    def add(self, announced: Announced) -> bool:
        """Whether there was room."""
        place = self.places.setdefault(announced.announcement.epoch.sequence, [])
        if len(place) >= _MOST_OF_ONE_PLACE:
            return False
        place.append(announced)
        self._count += 1
        self.top = max(self.top, announced.announcement.epoch.sequence)
        return True

    def first(self, sequence: int) -> Announced | None:
        """The one that was read first."""
        place = self.places.get(sequence)
        return None if place is None else place[0]

    def linked(self, head: Head) -> frozenset[bytes]:
        """Hashes of the records that lead to this head without a hole."""
        if self._linked is None or self._linked[:2] != (head, self._count):
            self._linked = head, self._count, frozenset(self._walk(head))
        return self._linked[2]

    def _walk(self, head: Head) -> Iterator[bytes]:
        wanted = head.hash
        for sequence in range(head.sequence, 0, -1):
            found = next((one for one in self.places.get(sequence, ()) if one.hash == wanted), None)
            if found is None:
                return
            yield wanted
            wanted = found.announcement.epoch.previous

    def missing(self, upto: int) -> int | None:
        """The first sequence up to there that wasn't read."""
        return next((sequence for sequence in range(1, upto + 1) if sequence not in self.places), None)

    def breaks(self, announced: Announced) -> bool:
        """Whether it says otherwise than its neighbours, or than another in its place."""
        epoch = announced.announcement.epoch
        before, after = self.first(epoch.sequence - 1), self.first(epoch.sequence + 1)
        return (
            len(self.places[epoch.sequence]) > 1
            or (before is not None and before.hash != epoch.previous)
            or (after is not None and after.announcement.epoch.previous != announced.hash)
        )


class Chains:
    """All chains of all producers."""

    def __init__(self) -> None:
        self._by_hash: dict[bytes, Announced] = {}
        self._by_kid: dict[bytes, list[Announced]] = {}
        self._endings: dict[tuple[bytes, bytes], list[Announced]] = {}
        self._counts: dict[bytes, int] = {}
        self.chains: dict[tuple[bytes, bytes], Chain] = {}
        self.equivocated: dict[bytes, str] = {}

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._by_hash

    def __len__(self) -> int:
        return len(self._by_hash)

    def has_room(self, producer: bytes) -> bool:
        return self._counts.get(producer, 0) < MOST_OF_ONE_PRODUCER

    def add(self, announced: Announced) -> bool:
        """A verified one that isn't there yet. Whether there was room."""
        announcement = announced.announcement
        epoch = announcement.epoch
        chain = self.chains.setdefault((epoch.producer, epoch.chain), Chain())
        if not chain.add(announced):
            return False
        self._by_hash[announced.hash] = announced
        self._counts[epoch.producer] = self._counts.get(epoch.producer, 0) + 1
        same_kid = self._by_kid.setdefault(announcement.kid, [])
        if any(one.announcement.epoch.producer == epoch.producer for one in same_kid):
            self.equivocated[epoch.producer] = f"announced kid {announcement.kid.hex()} twice"
        elif chain.breaks(announced):
            self.equivocated[epoch.producer] = f"its chain {epoch.chain.hex()} splits at {epoch.sequence}"
        same_kid.append(announced)
        if epoch.replaces is not None:
            self._endings.setdefault((epoch.producer, epoch.replaces.kid), []).append(announced)
        return True

    def kids(self) -> tuple[bytes, ...]:
        """In the order in which they were read first."""
        return tuple(self._by_kid)

    def by_hash(self, digest: bytes) -> Announced | None:
        return self._by_hash.get(digest)

    def of_kid(self, kid: bytes) -> list[Announced]:
        """In the order in which they were read; of several producers where one names another's."""
        return self._by_kid.get(kid, [])

    def replaced_by(self, announced: Announced) -> list[Announced]:
        """Those that say where this one ended."""
        announcement = announced.announcement
        return self._endings.get((announcement.epoch.producer, announcement.kid), [])

    def chain_of(self, announced: Announced) -> Chain:
        epoch = announced.announcement.epoch
        return self.chains[epoch.producer, epoch.chain]

    def is_first(self, announced: Announced) -> bool:
        """Whether no other of its producer with its kid or its place was read before."""
        epoch = announced.announcement.epoch
        if self.chain_of(announced).first(epoch.sequence) is not announced:
            return False
        kid = announced.announcement.kid
        return next(one for one in self.of_kid(kid) if one.announcement.epoch.producer == epoch.producer) is announced
