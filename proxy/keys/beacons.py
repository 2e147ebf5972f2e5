"""What a process says of how far it is, and what it hears of others (identities' FORMAT.md, section 9)."""

from collections.abc import Callable
from typing import Final

from kveil.protocol.identity.beacon import Beacon
from kveil.protocol.identity.progress import Progress
from kveil.proxy.identity.announcing import Announcer
from kveil.proxy.identity.control import Control
from kveil.proxy.keys.lanes import Lanes
from kveil.proxy.keys.streams import Streams, said_by
from kveil.proxy.keys.transactions import Transactions

# Of one beacon, which must fit in a record: the lanes that were begun last.
MAX_HEADS: Final = 16_384


class Beacons:
    """All of one process, in both directions."""

    def __init__(self, control: Control, announcer: Announcer, *, clock: Callable[[], float], is_alone: bool) -> None:
        """`is_alone`: no other process of this host serves the same clients."""
        self.lanes = Lanes(began=clock(), is_alone=is_alone)
        """Where batches stand that are sealed here."""
        self.transactions = Transactions()
        """How those ended that clients ran."""
        self.streams = Streams()
        """Where batches stand that are opened here."""
        self._view = control.view
        self._name_of = control.name_of
        self._announcer = announcer
        self._clock = clock
        self._replaced: list[bytes] = []  # kids, since the last beacon
        self._told: list[bytes] = []  # and those that this one named a last time
        control.when_beacon = self._hear

    def replaced(self, kid: bytes) -> None:
        """Nothing is sealed under a key any more."""
        self._replaced.append(kid)

    async def tell(self, *, last: bool) -> None:
        """Publish how far this process has sealed, and all replicas have it. Raises KeyDenied or KeyUnavailable."""
        told, replaced = self._told, len(self._replaced)
        await self._announcer.tell(self._heads, self.transactions.told, last=last)
        for kid in told:
            self.lanes.forget(kid)
        self.transactions.forget(told)
        self._told, self._replaced = self._replaced[:replaced], self._replaced[replaced:]

    def _heads(self) -> list[Progress]:
        return sorted(self.lanes.heads(), key=lambda head: head.lane)[-MAX_HEADS:]

    def _hear(self, beacon: Beacon) -> None:
        """Look for what a producer says that all replicas have."""
        if self._view.beacon(beacon.producer, beacon.chain) is not beacon:
            return
        topics: dict[bytes, str] = {}
        for kid in {head.kid for head in beacon.heads} | {ended.kid for ended in beacon.ended}:
            for judged in self._view.announcements(kid):
                if (epoch := judged.announced.announcement.epoch).producer == beacon.producer:
                    topics.setdefault(kid, epoch.topic)
        name = self._name_of(beacon.producer)
        self.streams.note_beacon((beacon.producer, beacon.chain), name, said_by(beacon, topics), self._clock())
