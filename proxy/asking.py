"""What a connection's fetches ask for. In an incremental session later ones name only what has changed (KIP-227)."""

from typing import NamedTuple

Place = tuple[str | bytes, int]
"""A topic, as the client names it, and a partition."""


class Asked(NamedTuple):
    """Where a client reads on in a partition, as the request of this number has it."""

    offset: int
    request: int


class Asking:
    """What is known of it."""

    __slots__ = ("asked", "ends", "looked", "requests", "topics")

    def __init__(self) -> None:
        self.asked: dict[Place, Asked] = {}
        self.ends: dict[Place, int] = {}
        """Where the log ended when that was told last."""
        self.topics: set[str | bytes] = set()
        """Those of the places that are asked for."""
        self.requests = 0
        self.looked = float("-inf")
        """When the ends were compared last with what should be there."""
