"""Epoch keys of record keys: found in what the key topic says, made where there is none.

As with the ring a frame asks first without waiting (`sealing_key`, `opening_key`), and waits for `prepare` or `unwrap`
where that isn't enough. What stands on the key topic is wrapped by a generation key, which is an opened key of the ring
as any other: it is unwrapped once, and again when its time is over, so a key-encryption key that is disabled stops all
of this within `keys.unwrap_cache_seconds`.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, Protocol

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_schedule import EpochKey, KeyHidingKey, derive_kid, new_epoch_key_secret
from kveil.protocol.envelope.key_topic import (
    KEY_TOPIC,
    RECORD_ID_LENGTH,
    Generation,
    KeyTopicCodec,
    State,
    WrappedRecordKey,
)
from kveil.proxy.config import Limits
from kveil.proxy.keys.errors import KeyErased, KeyRefused, KeysFull, KeyUnavailable
from kveil.proxy.keys.key_topic_store import KeyTopicStore
from kveil.proxy.keys.ring import KeyRing
from kveil.proxy.policy import KeyRef, Rule

# How long what was read is believed without a word of the key topic's broker. It answers every few seconds.
CURRENT_SECONDS: Final = 30.0
_TRIES: Final = 3


class KeyLog(Protocol):
    """The key topic, as it is followed and written."""

    async def append(self, records: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Write, and return when the store has read it back.

        :raises KeyUnavailable: it can't be done now, or isn't known to be.
        """
        ...

    async def catch_up(self) -> None:
        """Return when the store has what stood on the topic at the call.

        :raises KeyUnavailable: it can't be read now.
        """
        ...


class RecordKeys:
    """All of one process."""

    def __init__(
        self, ring: KeyRing, codec: KeyTopicCodec, limits: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.store = KeyTopicStore(codec, limits.record_keys)
        self.log: KeyLog | None = None
        """Whoever follows the key topic. It calls `heard` when the store is up to date."""
        self._ring = ring
        self._clock = clock
        self._most = limits.record_keys
        self._opened: OrderedDict[bytes, EpochKey] = OrderedDict()
        self._opened_most = limits.opened_keys
        self._current_until = float("-inf")
        self._making = asyncio.Lock()

    async def get_ready(self) -> None:
        """Have the key-hiding key, without which no entry can be believed. Raises KeyDenied or KeyUnavailable."""
        await self._ring.unwrap_hiding_key()

    def apply(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Takes one record of the key topic."""
        self.store.apply(offset, key, value)

    def heard(self) -> None:
        """The store has all that stood on the topic a moment ago."""
        self._current_until = self._clock() + CURRENT_SECONDS

    @property
    def is_current(self) -> bool:
        """Whether the store may be believed, above all in what it says nothing of."""
        return self._clock() < self._current_until

    def record_id(self, topic: str, record_key: bytes | None) -> bytes:
        """What stands for a record key on the key topic."""
        if record_key is None:
            return self.store.codec.null_key_id(topic)
        return self._hiding(topic).wire_key(record_key)[:RECORD_ID_LENGTH]

    def is_id_of(self, record_id: bytes, topic: str, wire_key: bytes | None, is_hidden: bool) -> bool:
        """Whether a record's key on the wire is that of a record id."""
        if is_hidden and wire_key is not None:
            return wire_key[:RECORD_ID_LENGTH] == record_id
        return self.record_id(topic, wire_key) == record_id

    def _hiding(self, topic: str) -> KeyHidingKey:
        hiding = self._ring.hiding_key(topic)
        if hiding is None:
            raise KeyUnavailable("the key-hiding key was not unwrapped yet")
        return hiding

    # Sealing -----------------------------------------------------------------------------------------------------

    def sealing_key(self, topic: str, rule: Rule, record_id: bytes) -> EpochKey | None:
        """The epoch key of a record key, or None: `prepare` is needed.

        :raises KeyDenied: its key-encryption key may not be used.
        """
        if not self.is_current:
            return None
        for kid in self.store.kids(record_id):
            try:
                key = self._epoch_key(topic, kid, rule)
            except KeyRefused:
                continue
            if key is not None:
                return key
        return None

    async def prepare(self, topic: str, rule: Rule, record_ids: Collection[bytes]) -> None:
        """See to it that these record keys have epoch keys, all new ones by one write.

        :raises KeyRefused, KeyDenied, KeyUnavailable: it can't be done.
        :raises KeysFull: there are as many as may be.
        """
        await self._be_current()
        async with self._making:  # so that two requests don't make a key each for one record key
            for _ in range(_TRIES):
                await self._unwrap_generations(rule, record_ids)
                missing = [one for one in record_ids if self.sealing_key(topic, rule, one) is None]
                if not missing:
                    return
                if not self.store.has_room(len(missing)):
                    msg = f"there are {len(self.store)} record keys with keys of their own: raise limits.record_keys"
                    raise KeysFull(msg)
                generation = await self._active(rule)
                codec = self.store.codec
                made = [self._new_entry(generation, topic, record_id) for record_id in missing]
                await self._log().append([codec.encode(entry) for entry in made])
        # Each time the generation was retired between the look and the write.
        raise KeyUnavailable("the keys of record keys are being replaced: try again")

    def _new_entry(self, generation: EpochKey, topic: str, record_id: bytes) -> WrappedRecordKey:
        secret = new_epoch_key_secret()
        kid = derive_kid(secret, realm=self._ring.realm, topic=topic, provider=registry.KEY_TOPIC)
        wrapped = self.store.codec.wrap(generation.secret, topic, record_id, kid, secret)
        return WrappedRecordKey(record_id, kid, generation.kid, topic, wrapped)

    async def _unwrap_generations(self, rule: Rule, record_ids: Iterable[bytes]) -> None:
        """Have those generation keys at hand that the record keys' entries are under."""
        kids = (kid for record_id in record_ids for kid in self.store.kids(record_id))
        entries = (self.store.entry(kid) for kid in kids)
        for generation in {entry.generation for entry in entries if entry is not None}:
            found = self.store.generation(generation)
            if found is not None:
                try:
                    await self._ring.unwrap(KEY_TOPIC, 0, found.kid, found.block, rule)
                except KeyRefused:
                    continue  # destroyed: its record keys get new epoch keys

    async def _active(self, rule: Rule) -> EpochKey:
        """The generation key that wraps what is new, made if there is none."""
        found = self.store.generations(rule.key, State.ACTIVE)
        refusal: KeyRefused | None = None
        for generation in reversed(found):
            try:
                return await self._ring.unwrap(KEY_TOPIC, 0, generation.kid, generation.block, rule)
            except KeyRefused as error:
                refusal = error
        if refusal is not None:
            # A further generation here, under what may be an old copy of the key file, could be one nobody else reads.
            raise refusal
        return await self.new_generation(rule.key)

    async def new_generation(self, key: KeyRef) -> EpochKey:
        """A new generation under the primary version of a key-encryption key, on the key topic.

        :raises KeyDenied, KeyUnavailable: it can't be made.
        """
        made = await self._ring.make_key(KEY_TOPIC, key)
        await self._log().append([self.store.codec.encode(Generation(made.kid, State.ACTIVE, made.block))])
        return made

    # Opening -----------------------------------------------------------------------------------------------------

    def opening_key(self, topic: str, kid: bytes, block: KeyBlock, rule: Rule) -> EpochKey | None:
        """The epoch key that opens an envelope of `topic`, or None: `unwrap` is needed.

        :raises KeyErased: its record key was erased.
        :raises KeyRefused, KeyDenied: it isn't to be had.
        """
        _check_admitted(block, rule)
        if not self.is_current:
            return None
        erasure = self.store.erasure(kid)
        if erasure is not None and erasure.topic == topic:
            self._opened.pop(kid, None)
            raise KeyErased(erasure.record_id)
        return self._epoch_key(topic, kid, rule)

    async def unwrap(self, topic: str, partition: int, kid: bytes, block: KeyBlock, rule: Rule) -> EpochKey:  # noqa: ARG002
        """The epoch key of an envelope, after a look at all that the key topic says.

        :raises KeyErased: its record key was erased.
        :raises KeyRefused, KeyDenied, KeyUnavailable: it isn't to be had.
        """
        _check_admitted(block, rule)
        await self._be_current()
        if self.store.entry(kid) is None and self.store.erasure(kid) is None:
            await self._log().catch_up()
        for _ in range(_TRIES):
            key = self.opening_key(topic, kid, block, rule)
            if key is not None:
                return key
            entry = self.store.entry(kid)
            generation = None if entry is None else self.store.generation(entry.generation)
            if entry is None or generation is None or entry.topic != topic:
                break
            await self._ring.unwrap(KEY_TOPIC, 0, generation.kid, generation.block, rule)
        msg = f"the key topic {KEY_TOPIC} has no key {kid.hex()} for {topic}, and no word of its erasure"
        if self.store.dropped:
            msg += (
                f"; {self.store.dropped} of its entries found no room: raise limits.record_keys, which is {self._most}"
            )
        raise KeyUnavailable(msg)

    def _epoch_key(self, topic: str, kid: bytes, rule: Rule) -> EpochKey | None:
        """An epoch key, None if it isn't there or its generation key isn't at hand. Raises KeyRefused or KeyDenied."""
        entry = self.store.entry(kid)
        generation = None if entry is None else self.store.generation(entry.generation)
        if entry is None or generation is None or entry.topic != topic:
            return None
        # Asked for each time: with the generation key's time the one of what it wraps is over.
        wrapping = self._ring.opening_key(KEY_TOPIC, generation.kid, generation.block, rule)
        if wrapping is None:
            return None
        key = self._opened.get(kid)
        if key is None:
            key = self._opened[kid] = self._unwrapped(wrapping, entry, rule)
            if len(self._opened) > self._opened_most:
                self._opened.popitem(last=False)
        self._opened.move_to_end(kid)
        return key

    def _unwrapped(self, wrapping: EpochKey, entry: WrappedRecordKey, rule: Rule) -> EpochKey:
        block = KeyBlock(registry.KEY_TOPIC, rule.key.name, registry.NO_WRAP, "", b"")
        try:
            secret = self.store.codec.unwrap(wrapping.secret, entry)
            return EpochKey(secret=secret, realm=self._ring.realm, topic=entry.topic, kid=entry.kid, block=block)
        except Unopenable as error:
            self.store.forget(entry.kid)  # anybody may have written it
            msg = f"the entry of key {entry.kid.hex()} on the key topic is not what its generation wrapped: {error}"
            raise KeyRefused(msg) from None

    # The topic ---------------------------------------------------------------------------------------------------

    async def append(self, records: Sequence[tuple[bytes, bytes | None]]) -> None:
        """As the log's."""
        await self._log().append(records)

    async def catch_up(self) -> None:
        """As the log's."""
        await self._log().catch_up()

    async def _be_current(self) -> None:
        if not self.is_current:
            await self._log().catch_up()

    def _log(self) -> KeyLog:
        if self.log is None:
            raise KeyUnavailable(f"the key topic {KEY_TOPIC} is not followed here")
        return self.log


def _check_admitted(block: KeyBlock, rule: Rule) -> None:
    if not (rule.per_record_key and any(block.name == key.name for key in rule.accept_keys)):
        msg = f"record keys' keys under {block.name!r} are not among those that the rule accepts"
        raise KeyRefused(msg)
