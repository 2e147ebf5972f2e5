"""What a reader remembers of the kids that it met: the keys that opened, and for a short time the refusals.

Entries of both are under (topic, kid, block), never under the kid alone. Else a broker could put a listed
key name over the kid of a key that the rule doesn't list, and be served from the cache; or copy a batch to
another topic, and have the refusal there stop the rightful one.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from kveil.protocol.envelope.header import KeyBlock, lp
from kveil.protocol.envelope.key_schedule import EpochKey
from kveil.proxy.keys.errors import KeyDenied, KeyRefused

K = TypeVar("K", bound=Hashable)
Refusal = KeyRefused | KeyDenied
Place = tuple[str, bytes, KeyBlock]

# Refusals that are remembered: at most what a broker can invent in a few seconds. About 150 bytes each.
REFUSED_KEYS: Final = 4_096
# Within the time for which one is remembered. A partition whose keys are all in order costs none.
REFUSALS_PER_PARTITION: Final = 16
# A key must outlive the moment between its being unwrapped and the frame that waits for it.
LEAST_SECONDS: Final = 0.1


class OpenedKeys:
    """The epoch keys that were unwrapped, each for a limited time; the least lately used dropped first."""

    def __init__(self, entries: int, seconds: float) -> None:
        self._entries = entries
        self._seconds = max(seconds, LEAST_SECONDS)
        self._keys: OrderedDict[Place, tuple[float, EpochKey]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, place: Place, now: float) -> EpochKey | None:
        """The key of this envelope, if it is known and its time isn't over."""
        found = self._keys.get(place)
        if found is None:
            return None
        if now >= found[0]:
            del self._keys[place]
            return None
        self._keys.move_to_end(place)
        return found[1]

    def put(self, place: Place, key: EpochKey, now: float) -> None:
        """Remembers a key that was had at `now`, and forgets the one that was not used for longest."""
        self._keys[place] = (now + self._seconds, key)
        self._keys.move_to_end(place)
        if len(self._keys) > self._entries:
            self._keys.popitem(last=False)


class Refusals(Generic[K]):
    """What was refused or denied, and why, for a few seconds."""

    def __init__(self, seconds: float, entries: int = REFUSED_KEYS) -> None:
        self._seconds = seconds
        self._entries = entries
        self._errors: OrderedDict[Hashable, tuple[float, Refusal]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._errors)

    def check(self, what: K, now: float) -> None:
        """Raises what was raised a moment ago for this one, if anything was."""
        found = self._errors.get(self._name(what)) if self._errors else None
        if found and now < found[0]:
            raise type(found[1])(*found[1].args)

    def put(self, what: K, error: Refusal, now: float) -> None:
        """Remembers a refusal. The oldest goes first, which is also the first to end."""
        name = self._name(what)
        self._errors[name] = (now + self._seconds, error.with_traceback(None))
        self._errors.move_to_end(name)
        if len(self._errors) > self._entries:
            self._errors.popitem(last=False)

    def clear(self) -> None:
        """After the keys have changed, what was refused may be known."""
        self._errors.clear()

    def _name(self, what: K) -> Hashable:
        """What stands for it in memory."""
        return what


class RefusedKeys(Refusals[Place]):
    """Why an envelope's key was refused or denied, for a few seconds."""

    def _name(self, what: Place) -> bytes:
        """A hash: the block is the broker's, and may be long."""
        topic, kid, block = what
        return hashlib.sha256(lp(topic.encode()) + kid + block.encode()).digest()


class RefusalBudget:
    """How many refused keys a partition may cost calls for, so that a broker that makes them up costs no more."""

    def __init__(self, seconds: float, entries: int = REFUSED_KEYS) -> None:
        self._seconds = seconds
        self._entries = entries
        self._partitions: OrderedDict[tuple[str, int], tuple[float, int]] = OrderedDict()

    def is_spent(self, topic: str, partition: int, now: float) -> bool:
        """Whether the partition may cost no more calls for a while."""
        found = self._partitions.get((topic, partition)) if self._partitions else None
        return found is not None and now < found[0] and found[1] >= REFUSALS_PER_PARTITION

    def note(self, topic: str, partition: int, now: float) -> None:
        """One more key of the partition was refused."""
        until, count = self._partitions.pop((topic, partition), (now + self._seconds, 0))
        if now >= until:
            until, count = now + self._seconds, 0
        self._partitions[topic, partition] = (until, count + 1)
        if len(self._partitions) > self._entries:
            self._partitions.popitem(last=False)
