"""What those who believe the control topic need of whoever follows it."""

from collections.abc import Sequence
from typing import Protocol

KeyValue = tuple[bytes, bytes | None]


class ControlLog(Protocol):
    """The control topic, as it is followed and written."""

    last_trouble: str
    """Why it wasn't read, where it wasn't."""

    async def append(self, records: Sequence[KeyValue]) -> None:
        """Write, and return when the reader has met it there. Raises KeyUnavailable."""
        ...

    async def catch_up(self) -> None:
        """Return when the reader has what stood on the topic at the call. Raises KeyUnavailable."""
        ...

    def read_again(self) -> None:
        """Read from the topic's start once more, soon."""
        ...
