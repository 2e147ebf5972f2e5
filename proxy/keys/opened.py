"""What a reader remembers of the kids that it met: the keys that opened, and for a short time the refusals.

Entries of both are under (topic, kid, block), never under the kid alone. Else a broker could put a listed
key name over the kid of a key that the rule doesn't list, and be served from the cache; or copy a batch to
another topic, and have the refusal there stop the rightful one.
"""

import hashlib
from collections import OrderedDict
from typing import Final

from kveil.protocol.envelope.header import KeyBlock, lp
from kveil.protocol.envelope.key_schedule import EpochKey

Place = tuple[str, bytes, KeyBlock]

# Refusals that are remembered: at most what a broker can invent in a few seconds. About 150 bytes each.
REFUSED_KEYS: Final = 4_096


class OpenedKeys:
    """The epoch keys that were unwrapped, the least lately used dropped first."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._keys: OrderedDict[Place, EpochKey] = OrderedDict()

    def get(self, place: Place) -> EpochKey | None:
        """The key of this envelope, if it is known."""
        key = self._keys.get(place)
        if key is not None:
            self._keys.move_to_end(place)
        return key

    def put(self, place: Place, key: EpochKey) -> None:
        """Remembers a key, and forgets the one that was not used for longest."""
        self._keys[place] = key
        self._keys.move_to_end(place)
        if len(self._keys) > self._entries:
            self._keys.popitem(last=False)


class RefusedKeys:
    """Why an envelope's key was refused, for a few seconds."""

    def __init__(self, seconds: float, entries: int = REFUSED_KEYS) -> None:
        self._seconds = seconds
        self._entries = entries
        self._reasons: OrderedDict[bytes, tuple[float, str]] = OrderedDict()

    def reason(self, place: Place, now: float) -> str | None:
        """Why this one was refused a moment ago; None if it wasn't."""
        found = self._reasons.get(_digest(place)) if self._reasons else None
        return found[1] if found and now < found[0] else None

    def put(self, place: Place, reason: str, now: float) -> None:
        """Remembers a refusal. The oldest goes first, which is also the first to end."""
        digest = _digest(place)
        self._reasons[digest] = (now + self._seconds, reason)
        self._reasons.move_to_end(digest)
        if len(self._reasons) > self._entries:
            self._reasons.popitem(last=False)

    def clear(self) -> None:
        """After the keys have changed, what was refused may be known."""
        self._reasons.clear()


def _digest(place: Place) -> bytes:
    """A refusal is kept under a hash: the block is the broker's, and may be long."""
    topic, kid, block = place
    return hashlib.sha256(lp(topic.encode()) + kid + block.encode()).digest()
