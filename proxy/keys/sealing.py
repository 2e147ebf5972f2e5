"""What seals now: an epoch key for each topic, inside its limits, and a lease of the key that wrapped it."""

from dataclasses import dataclass
from typing import NamedTuple

from kveil.protocol.envelope.key_schedule import MAX_EPOCH_BATCHES, MAX_EPOCH_BYTES, EpochKey
from kveil.proxy.policy import KeyRef

RENEWED_EARLY = 1 / 3
"""Which part of a lease is left when it is renewed, so that a call that is slow or fails holds nobody up."""


@dataclass(slots=True, kw_only=True)
class Epoch:
    """One epoch key at work, and how much of it is used up. `since` is the ring's clock, in seconds."""

    key: EpochKey
    since: float
    batches: int = 0
    nbytes: int = 0

    def is_spent(self, now: float, age_seconds: float) -> bool:
        """Whether it may seal no more."""
        return now - self.since >= age_seconds or self.batches >= MAX_EPOCH_BATCHES or self.nbytes >= MAX_EPOCH_BYTES


class EpochInUse(NamedTuple):
    """What may be told of an epoch key: the key that wrapped it, and its age in seconds."""

    key: str
    version: str
    age_seconds: float


class Epochs:
    """The epoch of each topic. The number of topics is bounded by what clients may produce to."""

    def __init__(self, age_seconds: float) -> None:
        self._age_seconds = age_seconds
        self._by_topic: dict[str, Epoch] = {}

    def current(self, topic: str, key: KeyRef, version: str, now: float) -> EpochKey | None:
        """The key that seals `topic` now under that version of that key, or None: a new one is needed."""
        epoch = self._by_topic.get(topic)
        if epoch is None:
            return None
        block = epoch.key.block
        if (block.provider, block.name) != key or block.version != version or epoch.is_spent(now, self._age_seconds):
            return None
        return epoch.key

    def wrapped_by(self, topic: str, key: KeyRef) -> bool:
        """Whether the topic's epoch key was wrapped by that key, so that a lease may be all that it needs."""
        epoch = self._by_topic.get(topic)
        return epoch is not None and (epoch.key.block.provider, epoch.key.block.name) == key

    def begin(self, key: EpochKey, now: float) -> None:
        """Puts a fresh key in the place of the topic's last one."""
        self._by_topic[key.topic] = Epoch(key=key, since=now)

    def end(self) -> None:
        """Seal no more with any of the keys."""
        self._by_topic.clear()

    def in_use(self, now: float) -> dict[str, EpochInUse]:
        """What seals, by topic."""
        return {
            topic: EpochInUse(epoch.key.block.name, epoch.key.block.version, now - epoch.since)
            for topic, epoch in self._by_topic.items()
            if not epoch.is_spent(now, self._age_seconds)
        }

    def note_use(self, key: EpochKey, nbytes: int) -> None:
        """Counts one batch of `nbytes` plaintext. A key that was replaced meanwhile is counted no more."""
        epoch = self._by_topic.get(key.topic)
        if epoch is not None and epoch.key is key:
            epoch.batches += 1
            epoch.nbytes += nbytes


class Lease(NamedTuple):
    """That a key-encryption key could be used, and which of its versions was the primary. Times are the ring's."""

    version: str
    until: float
    due: float
    """When it is to be renewed, while it still holds."""


class Leases:
    """The lease of each key. Every wrap that succeeds renews it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._by_key: dict[KeyRef, Lease] = {}

    def current(self, key: KeyRef, now: float) -> Lease | None:
        """The lease of the key, or None: whoever keeps the key must be asked first."""
        lease = self._by_key.get(key)
        return lease if lease is not None and now < lease.until else None

    def renew(self, key: KeyRef, version: str, asked: float) -> None:
        """The key was usable when it was asked for, at `asked`."""
        end = asked + self._seconds
        self._by_key[key] = Lease(version, end, end - self._seconds * RENEWED_EARLY)

    def postpone(self, key: KeyRef, until: float) -> None:
        """Try no renewal before `until`."""
        lease = self._by_key.get(key)
        if lease is not None:
            self._by_key[key] = lease._replace(due=until)

    def end(self, key: KeyRef) -> None:
        """The key may be used no more."""
        self._by_key.pop(key, None)

    def end_all(self) -> None:
        """Nothing is sure any more: ask again."""
        self._by_key.clear()
