"""Which checkpoint counts, and whether others were shown another one (FORMAT.md, section 5)."""

from __future__ import annotations

from collections.abc import Collection

from kveil.protocol.identity.alarms import Alarm, AlarmKind
from kveil.protocol.identity.checkpoint import Checkpoint
from kveil.protocol.identity.marks import Kept
from kveil.protocol.identity.signing import NO_HASH

MOST_REMEMBERED = 4_096  # numbers: with an hour between them, half a year
_MOST_HASHES = 4  # of one number: two are a fork already


class Checkpoints:
    """The newest checkpoint, once it is kept on disk, and the hashes by which forks show."""

    def __init__(self, kept: Kept | None) -> None:
        self.kept = kept
        self.newest: Checkpoint | None = None
        self._offered: tuple[Kept, Checkpoint] | None = None
        self._forked: int | None = None
        self._hashes: dict[int, bytes] = {} if kept is None else {kept.number: kept.hash}
        # number -> hash -> whose announcement or beacon said so
        self._claims: dict[int, dict[bytes, set[bytes]]] = {}
        # What `fork` found, and of which claims, hashes and live producers: it is asked for each batch.
        self._found: Alarm | None = None
        self._found_of: tuple[int, Collection[bytes]] | None = None
        self._changes = 0

    @property
    def to_keep(self) -> Kept | None:
        """What must be on disk before it counts."""
        return None if self._offered is None else self._offered[0]

    def add(self, checkpoint: Checkpoint, digest: bytes) -> bool:
        """A verified one. Whether it is new, and not below what is kept."""
        number = checkpoint.number
        self._compare(number, digest)
        if checkpoint.previous != NO_HASH:
            self._compare(number - 1, checkpoint.previous)
        floor = max((one.number for one in (self.kept, self.to_keep) if one is not None), default=0)
        if number < floor or self._forked is not None or (number == floor and self.newest is not None):
            return False
        if self.kept == Kept(number, digest):
            self.newest = checkpoint
            return True
        if self._offered is not None and number == floor:
            return False
        self._offered = Kept(number, digest), checkpoint
        return True

    def keep(self, kept: Kept) -> None:
        """It is on disk. A newer one that came meanwhile is still `to_keep`."""
        if self._offered is not None and self._offered[0] == kept:
            self.kept, self.newest = self._offered
            self._offered = None

    def _compare(self, number: int, digest: bytes) -> None:
        """An authority that skipped numbers names an older one as the one before: no other has that number then."""
        known = self._hashes.get(number)
        if known == digest:
            return
        self._changes += 1
        if known is not None:
            self._forked = number
            return
        self._hashes[number] = digest
        if len(self._hashes) > MOST_REMEMBERED:
            del self._hashes[min(self._hashes)]

    def claim(self, kept: Kept, producer: bytes) -> None:
        """What a producer says that it had."""
        if producer in self._claims.get(kept.number, {}).get(kept.hash, ()):
            return
        self._changes += 1
        if kept.number not in self._claims and len(self._claims) >= MOST_REMEMBERED:
            if kept.number < min(self._claims):
                return
            del self._claims[min(self._claims)]
        hashes = self._claims.setdefault(kept.number, {})
        if kept.hash in hashes or len(hashes) < _MOST_HASHES:
            hashes.setdefault(kept.hash, set()).add(producer)

    def fork(self, live: Collection[bytes]) -> Alarm | None:
        """Two checkpoints of one number: by the authority's signatures, or by what live producers say that they had."""
        if self._found_of is None or self._found_of != (self._changes, live):
            self._found_of = self._changes, live
            self._found = self._fork(live)
        return self._found

    def _fork(self, live: Collection[bytes]) -> Alarm | None:
        if self._forked is not None:
            return Alarm(AlarmKind.FORK, b"", f"there are two checkpoints {self._forked}")
        for number, hashes in self._claims.items():
            ours = self._hashes.get(number)
            said = [(digest, who) for digest, makers in hashes.items() if (who := _one_of(makers, live)) is not None]
            for digest, who in said:
                if digest != (said[0][0] if ours is None else ours):
                    return Alarm(AlarmKind.FORK, who, f"says that it has another checkpoint {number}")
        return None

    def ahead(self, live: Collection[bytes]) -> Alarm | None:
        """Some live producer has a newer checkpoint than was seen here."""
        number = max(self._claims, default=0)
        seen = max((one.number for one in (self.kept, self.to_keep) if one is not None), default=0)
        if number > seen:
            for makers in self._claims[number].values():
                if (who := _one_of(makers, live)) is not None:
                    return Alarm(AlarmKind.WITHHELD, who, f"says that it has checkpoint {number}, which isn't here")
        return None

    def rollback(self) -> Alarm | None:
        """What was kept isn't there any more: to be asked once the topic was read to its end."""
        if self.kept is None or self.newest is not None or self._offered is not None:
            return None
        return Alarm(AlarmKind.ROLLBACK, b"", f"checkpoint {self.kept.number} was seen before and isn't there")


def _one_of(makers: set[bytes], live: Collection[bytes]) -> bytes | None:
    return min((maker for maker in makers if maker in live), default=None)
