"""The epoch keys that seal now: one for each topic, each inside its limits."""

from dataclasses import dataclass

from kveil.protocol.envelope.key_schedule import MAX_EPOCH_BATCHES, MAX_EPOCH_BYTES, EpochKey


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


class Epochs:
    """The epoch of each topic. The number of topics is bounded by what clients may produce to."""

    def __init__(self, age_seconds: float) -> None:
        self._age_seconds = age_seconds
        self._by_topic: dict[str, Epoch] = {}

    def current(self, topic: str, key_name: str, version: str | None, now: float) -> EpochKey | None:
        """The key that seals `topic` now under that version of that key, or None: a new one is needed."""
        epoch = self._by_topic.get(topic)
        if epoch is None:
            return None
        block = epoch.key.block
        if block.name != key_name or block.version != version or epoch.is_spent(now, self._age_seconds):
            return None
        return epoch.key

    def begin(self, key: EpochKey, now: float) -> None:
        """Puts a fresh key in the place of the topic's last one."""
        self._by_topic[key.topic] = Epoch(key=key, since=now)

    def note_use(self, key: EpochKey, nbytes: int) -> None:
        """Counts one batch of `nbytes` plaintext. A key that was replaced meanwhile is counted no more."""
        epoch = self._by_topic.get(key.topic)
        if epoch is not None and epoch.key is key:
            epoch.batches += 1
            epoch.nbytes += nbytes
