"""Erasing record keys, in two steps that may be years apart and are both resumable.

`shred` marks the epoch keys of one record key: every proxy that reads that opens nothing more with them. A log that
somebody has kept holds their wraps all the same. So `Finish` moves everybody else's epoch keys to a new generation,
under a newer version of the key-encryption key, and has the older versions destroyed: then those wraps are worth
nothing. Where it stands is on the key topic alone.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final, NamedTuple

from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.envelope.key_schedule import EpochKey
from kveil.protocol.envelope.key_topic import KEY_TOPIC, Erased, Generation, State, WrappedRecordKey
from kveil.proxy.admin.audit import audit
from kveil.proxy.context import Shared
from kveil.proxy.keys.calls import KeyCalls
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeyUnavailable
from kveil.proxy.keys.provider import KeyContext
from kveil.proxy.keys.record_keys import RecordKeys
from kveil.proxy.net.following import following
from kveil.proxy.policy import KeyRef, Rule

# Entries that are wrapped anew by one write.
REWRAPPED_AT_ONCE: Final = 1_000
# New epoch keys may be made while the old ones are marked.
_PASSES: Final = 3


class ErasureFailed(Exception):
    """It can't be done as things are. The text says what is to be done first."""


@asynccontextmanager
async def followed_keys(shared: Shared) -> AsyncIterator[RecordKeys]:
    """The record keys of the key topic, read to its end.

    :raises ErasureFailed: no rule asks for any.
    :raises KeyUnavailable: it can't be read.
    """
    keys = shared.record_keys
    if keys is None:
        raise ErasureFailed(
            "no rule has key_per: record_key: there are no record keys that could be erased by themselves"
        )
    async with following(shared, keys) as log:
        await log.catch_up()
        yield keys


async def shred(shared: Shared, keys: RecordKeys, topic: str, record_key: bytes) -> int:
    """Mark all epoch keys of a record key, and return how many there were.

    :raises ErasureFailed: the topic's rule doesn't give record keys epoch keys.
    :raises KeyUnavailable: the mark can't be written.
    """
    if not shared.policy.rule_for(topic).per_record_key:
        raise ErasureFailed(f"the rule of {topic} doesn't have key_per: record_key")
    await keys.catch_up()
    record_id = keys.record_id(topic, record_key)
    count = 0
    for _ in range(_PASSES):
        entries = [entry for entry in map(keys.store.entry, keys.store.kids(record_id)) if entry is not None]
        if not entries:
            break
        await _write_erasures(keys, [_erased(entry) for entry in entries])
        count += len(entries)
    if count:
        audit("key.erased", topic, keys=count)
    return count


def _erased(entry: WrappedRecordKey) -> Erased:
    return Erased(entry.record_id, entry.kid, entry.generation, entry.topic)


async def _write_erasures(keys: RecordKeys, erasures: Sequence[Erased]) -> None:
    """Each mark with what takes the wrap off the topic, together."""
    codec = keys.store.codec
    records: list[tuple[bytes, bytes | None]] = []
    for erasure in erasures:
        records.append(codec.encode(erasure))
        records.append(codec.removal_of(WrappedRecordKey(*erasure, wrapped=b"")))
    await keys.append(records)


class Destruction(NamedTuple):
    """Which versions of a key-encryption key must be destroyed."""

    key: KeyRef
    versions: Sequence[str]


class Finish:
    """The second step, for one key-encryption key."""

    def __init__(self, shared: Shared, keys: RecordKeys, key: KeyRef, tell: Callable[[str], None]) -> None:
        """`tell` hears how far it is. Raises ErasureFailed if the key may seal more than record keys' keys."""
        if shared.keys.wraps_hiding_key(key):
            raise ErasureFailed(
                f"key {key} wraps the key-hiding key too, which would be lost with its older versions: "
                "these rules need a key of their own"
            )
        if not shared.policy.is_for_record_keys(key):
            msg = (
                f"no rule with key_per: record_key names the key {key}: what else is sealed under it isn't known, so "
                "none of its versions is destroyed"
            )
            raise ErasureFailed(msg)
        self._keys = keys
        self._store = keys.store
        self._ring = shared.keys
        provider = shared.keys.providers[key.provider]
        self._calls = KeyCalls(provider, shared.settings.keys.call_timeout_seconds, shared.metrics)
        self._key = key
        self._tell = tell
        # That of any topic, for this key alone.
        self._rule: Rule = replace(
            shared.policy.rule_for(KEY_TOPIC), key=key, accept_keys=frozenset({key}), sealed_as=None
        )

    async def rewrap(self) -> Destruction:
        """Move all that lives to a new generation, and return what is to be destroyed then.

        :raises ErasureFailed: the key has no newer version yet.
        :raises KeyDenied, KeyUnavailable: a key service or the key topic doesn't let it.
        """
        if self._store.dropped:
            raise ErasureFailed(
                f"{self._store.dropped} record keys found no room here, and would be lost: raise limits.record_keys"
            )
        self._ring.reload()
        primary = (await self._calls.describe(self._key.name)).primary
        if any(one.block.version == primary for one in self._pending()):
            msg = (
                f"key {self._key} has no version that is newer than the erasures: rotate it first"
                f"{_rotation(self._key)}, and let every proxy have the new version"
            )
            raise ErasureFailed(msg)
        new = await self._new_generation(primary)
        await self._retire(new)
        await self._rewrap_all(new)
        await self._tell_revived()
        versions = sorted({one.block.version for one in self._retired()})
        return Destruction(self._key, versions)

    def _pending(self) -> list[Generation]:
        """The generations that wrapped what is erased."""
        found = {erasure.generation for erasure in self._store.pending()}
        return [one for one in self._of_this_key() if one.kid in found]

    def _of_this_key(self) -> list[Generation]:
        return [one for state in State for one in self._store.generations(self._key, state)]

    def _retired(self) -> Sequence[Generation]:
        return self._store.generations(self._key, State.RETIRED)

    async def _new_generation(self, primary: str) -> EpochKey:
        """The generation that stays: one under the primary version, which may be there from an earlier try."""
        for one in self._store.generations(self._key, State.ACTIVE):
            if one.block.version == primary:
                return await self._ring.unwrap(KEY_TOPIC, 0, one.kid, one.block, self._rule)
        return await self._keys.new_generation(self._key)

    async def _retire(self, new: EpochKey) -> None:
        """From here on nothing that is wrapped by the older ones counts, so that none slips in behind the rewrapping.

        Another one under the same version stays: somebody else may finish at the same time.
        """
        codec, version = self._store.codec, new.block.version
        others = [
            one
            for one in self._store.generations(self._key, State.ACTIVE)
            if one.kid != new.kid and (one.block.version != version or not version)
        ]
        if others:
            await self._keys.append([codec.encode(one._replace(state=State.RETIRED)) for one in others])
            self._tell(f"retired {len(others)} generations of key {self._key}")

    async def _rewrap_all(self, new: EpochKey) -> None:
        codec = self._store.codec
        for old in self._retired():
            entries = list(self._store.under(old.kid))
            if not entries:
                continue
            secret = (await self._ring.unwrap(KEY_TOPIC, 0, old.kid, old.block, self._rule)).secret
            for start in range(0, len(entries), REWRAPPED_AT_ONCE):
                records: list[tuple[bytes, bytes | None]] = []
                for entry in entries[start : start + REWRAPPED_AT_ONCE]:
                    try:
                        plain = codec.unwrap(secret, entry)
                    except Unopenable:  # nobody could ever use it
                        records.append(codec.removal_of(entry))
                        continue
                    wrapped = codec.wrap(new.secret, entry.topic, entry.record_id, entry.kid, plain)
                    records.append(codec.encode(entry._replace(generation=new.kid, wrapped=wrapped)))
                await self._keys.append(records)
                self._tell(f"rewrapped {min(start + REWRAPPED_AT_ONCE, len(entries))} of {len(entries)} record keys")
        await self._keys.catch_up()
        left = sum(1 for old in self._retired() for _ in self._store.under(old.kid))
        if left:
            raise KeyUnavailable(f"{left} record keys are not rewrapped yet: run it again")

    async def _tell_revived(self) -> None:
        """What was erased while it was rewrapped is under the new generation now: it waits for the next time."""
        revived = self._store.revived()
        if revived:
            await _write_erasures(self._keys, revived)

    async def check_destroyed(self) -> list[str]:
        """The versions of the key that still unwrap what they wrapped: none once they are destroyed.

        :raises KeyRefused, KeyDenied, KeyUnavailable: it can't be told: not even what lives can be unwrapped from here.
        """
        self._ring.reload()
        alive = set()
        for living in self._store.generations(self._key, State.ACTIVE):
            await self._unwrap(living)
        for old in self._retired():
            try:
                await self._unwrap(old)
            except (KeyRefused, KeyDenied):
                continue
            alive.add(old.block.version)
        return sorted(alive)

    async def _unwrap(self, generation: Generation) -> None:
        """Ask whoever keeps the key, whatever is remembered here."""
        await self._calls.unwrap(generation.block, KeyContext(self._ring.realm, KEY_TOPIC, generation.kid))

    async def complete(self) -> int:
        """Take the retired generations off the topic, and return how many epoch keys are gone for all by that."""
        retired = self._retired()
        kids = {one.kid for one in retired}
        erased = sum(1 for erasure in self._store.pending() if erasure.generation in kids)
        await self._keys.append([self._store.codec.removal_of(one) for one in retired])
        return erased


def unfinished_keys(keys: RecordKeys) -> list[KeyRef]:
    """The key-encryption keys of which older versions are to be destroyed yet."""
    pending = {erasure.generation for erasure in keys.store.pending()}
    found = {
        KeyRef(one.block.provider, one.block.name)
        for one in keys.store.all_generations
        if one.kid in pending or one.state is State.RETIRED
    }
    return sorted(found)


def _rotation(key: KeyRef) -> str:
    return f" (`kveil keys rotate {key.name}`)" if key.provider == 1 else " in its service"
