"""The control topic in memory: one order for all who follow it, as a broker gives it."""

from collections.abc import Sequence

from kveil.proxy.identity.control import Control
from kveil.proxy.keys.errors import KeyUnavailable

KeyValue = tuple[bytes | None, bytes | None]


class ControlTopic:
    """What stands on the topic."""

    def __init__(self, records: Sequence[KeyValue] = ()) -> None:
        self.records = list(records)

    def followed_by(self, control: Control) -> "Follower":
        """Have a node follow it. Nothing is read yet."""
        control.log = follower = Follower(self, control)
        return follower


class Follower:
    """One who reads and writes it. `before_write` is what others do just before a write."""

    def __init__(self, topic: ControlTopic, control: Control) -> None:
        self.topic = topic
        self._control = control
        self._position = 0
        self.before_write: list[Sequence[KeyValue]] = []
        self.is_cut_off = False
        self.loses_writes = False
        self.looks = 0
        self.last_trouble = "not yet"

    async def append(self, records: Sequence[KeyValue]) -> None:
        """Write and read back."""
        if self.is_cut_off:
            raise KeyUnavailable("cut off")
        if self.before_write:
            self.topic.records += self.before_write.pop(0)
        if self.loses_writes:
            raise KeyUnavailable("no answer")
        self.topic.records += records
        self.read()

    async def catch_up(self) -> None:
        """Read to the end."""
        if self.is_cut_off:
            raise KeyUnavailable("cut off")
        self.looks += 1
        self.read()

    def read_again(self) -> None:
        """Begin from the start at the next read."""
        self._position = 0

    def read(self) -> None:
        """As the follower's own task does, whenever something is there."""
        start, self._position = self._position, len(self.topic.records)
        for offset in range(start, self._position):
            self._control.apply(offset, *self.topic.records[offset])
        self._control.heard()
