"""What the key topic says, as far as it was read: entries in, look-ups out. Nothing here waits, calls or unwraps.

Epoch keys stay wrapped here, in about 350 bytes each: there may be one for every customer. Entries are taken in the
order of the topic, from whatever offset on: what a log cleaner leaves of it says the same.
"""

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Final

from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.envelope.header import KID_LENGTH
from kveil.protocol.envelope.key_topic import (
    RECORD_ID_LENGTH,
    WRAP_LENGTH,
    Erased,
    Generation,
    KeyTopicCodec,
    Kind,
    Removed,
    State,
    WrappedRecordKey,
)
from kveil.proxy.policy import KeyRef

# Number of the generation, number of the topic, record id, wrap
_PACKED: Final = Struct(f">HH{RECORD_ID_LENGTH}s{WRAP_LENGTH}s")
_NUMBERS: Final = 1 << 16
# Several proxies at the limit may each make keys of one more request.
_OVER: Final = 1.1


class _Numbers:
    """Small numbers for what comes again and again."""

    def __init__(self) -> None:
        self._numbers: dict[bytes | str, int] = {}
        self._values: list[bytes | str] = []

    def number(self, value: bytes | str) -> int | None:
        """The value's number, None where there are too many values: a broker may make them up."""
        found = self._numbers.get(value)
        if found is None and len(self._values) < _NUMBERS:
            found = self._numbers[value] = len(self._values)
            self._values.append(value)
        return found

    def value(self, number: int) -> bytes | str:
        """What the number stands for."""
        return self._values[number]


class KeyTopicStore:
    """One reader's view of the key topic."""

    def __init__(self, codec: KeyTopicCodec, most: int) -> None:
        """`most` is the number of epoch keys that are kept."""
        self.codec = codec
        self.refused = 0
        """Entries that were none: not of this realm, or not whole."""
        self.dropped = 0
        """Entries for which there was no room."""
        self._most = most
        self._generations: dict[bytes, Generation] = {}
        self._retired_at: dict[bytes, int] = {}
        self._entries: dict[bytes, bytes] = {}
        self._kids: dict[bytes, bytes] = {}  # by record id, one behind the other: mostly the very bytes of its entry
        self._erased: dict[bytes, bytes] = {}
        self._revived: dict[bytes, Erased] = {}
        self._numbers = _Numbers()

    def __len__(self) -> int:
        """How many epoch keys there are."""
        return len(self._entries)

    def has_room(self, further: int) -> bool:
        """Whether so many epoch keys may be made."""
        return len(self._entries) + further <= self._most

    # Entries in --------------------------------------------------------------------------------------------------

    def apply(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Takes one record of the topic. What is no entry is passed over, and counted."""
        try:
            entry = self.codec.decode(key, value)
        except Unopenable:
            self.refused += 1
            return
        match entry:
            case Generation():
                self._take_generation(offset, entry)
            case WrappedRecordKey():
                self._take(offset, entry)
            case Erased():
                self._erase(entry)
            case Removed(Kind.GENERATION, kid):
                self._generations.pop(kid, None)
            case Removed(Kind.RECORD_KEY, kid):
                self.forget(kid)
            case Removed():
                pass  # an erasure is for ever

    def _take_generation(self, offset: int, entry: Generation) -> None:
        if entry.kid in self._retired_at and entry.state is State.ACTIVE:
            return  # an old copy: what is retired stays so
        if entry.state is State.RETIRED:
            self._retired_at.setdefault(entry.kid, offset)
        self._generations[entry.kid] = entry

    def _take(self, offset: int, entry: WrappedRecordKey) -> None:
        if offset > self._retired_at.get(entry.generation, offset):
            return
        erasure = self.erasure(entry.kid)
        if erasure is not None:
            self._revived[entry.kid] = erasure._replace(generation=entry.generation)
            return
        present = self._entries.get(entry.kid)
        if present is None and len(self._entries) >= self._most * _OVER:
            self.dropped += 1
            return
        if present is not None and entry.generation not in self._generations:
            return  # a copy of what a generation said that is gone
        packed = self._packed(entry.generation, entry.topic, entry.record_id, entry.wrapped)
        if packed is None:
            self.dropped += 1
            return
        if present is not None and _PACKED.unpack(present)[2] != entry.record_id:
            self.forget(entry.kid)
            present = None
        self._entries[entry.kid] = packed
        if present is None:
            self._kids[entry.record_id] = self._kids.get(entry.record_id, b"") + entry.kid

    def _erase(self, entry: Erased) -> None:
        packed = self._packed(entry.generation, entry.topic, entry.record_id, bytes(WRAP_LENGTH))
        if packed is None:
            self.dropped += 1
            return
        present = self.entry(entry.kid)
        if present is not None and present.generation != entry.generation and present.generation in self._generations:
            self._revived[entry.kid] = entry._replace(generation=present.generation)
        elif self._revived.get(entry.kid) == entry:
            del self._revived[entry.kid]  # told of by now
        self.forget(entry.kid)
        self._erased[entry.kid] = packed[:-WRAP_LENGTH]

    def _packed(self, generation: bytes, topic: str, record_id: bytes, wrapped: bytes) -> bytes | None:
        numbers = self._numbers.number(generation), self._numbers.number(topic)
        if None in numbers:
            return None
        return _PACKED.pack(*numbers, record_id, wrapped)

    def forget(self, kid: bytes) -> None:
        """Takes an epoch key away: its entry was, or it doesn't unwrap."""
        packed = self._entries.pop(kid, None)
        if packed is None:
            return
        record_id = _PACKED.unpack(packed)[2]
        left = b"".join(other for other in self.kids(record_id) if other != kid)
        if left:
            self._kids[record_id] = left
        else:
            del self._kids[record_id]

    # Look-ups ----------------------------------------------------------------------------------------------------

    def generation(self, kid: bytes) -> Generation | None:
        """The generation of that kid, retired or not."""
        return self._generations.get(kid)

    def generations(self, key: KeyRef, state: State) -> Sequence[Generation]:
        """Those that a key-encryption key wraps, in that state, the first one first."""
        return [one for one in self._generations.values() if (one.block[:2] == key and one.state is state)]

    @property
    def all_generations(self) -> Sequence[Generation]:
        """Every generation."""
        return list(self._generations.values())

    def kids(self, record_id: bytes) -> Sequence[bytes]:
        """The epoch keys of a record key: mostly one."""
        found = self._kids.get(record_id, b"")
        return tuple(found[at : at + KID_LENGTH] for at in range(0, len(found), KID_LENGTH))

    def entry(self, kid: bytes) -> WrappedRecordKey | None:
        """An epoch key that isn't erased."""
        packed = self._entries.get(kid)
        if packed is None:
            return None
        generation, topic, record_id, wrapped = _PACKED.unpack(packed)
        return WrappedRecordKey(record_id, kid, self._bytes(generation), self._text(topic), wrapped)

    def erasure(self, kid: bytes) -> Erased | None:
        """That an epoch key is erased, if it is."""
        packed = self._erased.get(kid)
        if packed is None:
            return None
        generation, topic, record_id, _ = _PACKED.unpack(packed + bytes(WRAP_LENGTH))
        return Erased(record_id, kid, self._bytes(generation), self._text(topic))

    def under(self, generation: bytes) -> Iterator[WrappedRecordKey]:
        """The epoch keys that a generation wraps. The store must stay as it is meanwhile."""
        for kid in self._entries:
            entry = self.entry(kid)
            if entry is not None and entry.generation == generation:
                yield entry

    def pending(self) -> list[Erased]:
        """What is erased and not gone for all: the generation that wrapped it can be unwrapped yet."""
        found = (self.erasure(kid) for kid in self._erased)
        return [entry for entry in found if entry is not None and entry.generation in self._generations]

    def revived(self) -> list[Erased]:
        """What was erased while somebody wrapped it anew, with the generation that wraps it now."""
        return [entry for entry in self._revived.values() if entry.generation in self._generations]

    def _bytes(self, number: int) -> bytes:
        value = self._numbers.value(number)
        return value if isinstance(value, bytes) else b""

    def _text(self, number: int) -> str:
        value = self._numbers.value(number)
        return value if isinstance(value, str) else ""
