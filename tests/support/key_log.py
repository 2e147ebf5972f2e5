"""The key topic in memory: one order for all who follow it, as a broker gives it."""

from collections.abc import Sequence

from kveil.proxy.keys.errors import KeyUnavailable
from kveil.proxy.keys.record_keys import RecordKeys

KeyValue = tuple[bytes, bytes | None]


class KeyTopic:
    """What stands on the topic."""

    def __init__(self, records: Sequence[KeyValue] = ()) -> None:
        self.records = list(records)
        self.writes = 0

    def followed_by(self, keys: RecordKeys) -> "Follower":
        """Have record keys follow it."""
        keys.log = follower = Follower(self, keys)
        return follower


class Follower:
    """One who reads and writes it. `before_write` may say what others did just before a write."""

    def __init__(self, topic: KeyTopic, keys: RecordKeys) -> None:
        self._topic = topic
        self._keys = keys
        self._position = 0
        self.looks = 0
        self.before_write: list[Sequence[KeyValue]] = []
        self.is_cut_off = False

    async def append(self, records: Sequence[KeyValue]) -> None:
        """Write and read back."""
        if self.is_cut_off:
            raise KeyUnavailable("cut off")
        if self.before_write:
            self._topic.records += self.before_write.pop(0)
        self._topic.records += records
        self._topic.writes += 1
        self._read()

    async def catch_up(self) -> None:
        """Read to the end."""
        if self.is_cut_off:
            raise KeyUnavailable("cut off")
        self.looks += 1
        self._read()

    def _read(self) -> None:
        store = self._keys.store
        for offset in range(self._position, len(self._topic.records)):
            store.apply(offset, *self._topic.records[offset])
        self._position = len(self._topic.records)
        self._keys.heard()
