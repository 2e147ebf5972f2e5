"""The epoch keys of this process: those that seal now, and those that opened what was read.

A frame asks first without waiting (`sealing_key`, `opening_key`), which nearly always answers. Where not, the
shell waits for `renew` or `unwrap` and asks again. Concurrent needs for the same key make one call.

Sealing needs two things: the topic's epoch key, and a lease of the key that wrapped it: the word of whoever keeps that
key that it may still be used, which is asked for again before it ends. So a key that is disabled seals no longer than a
lease, and a service that is down for less than the rest of a lease stops nothing.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_schedule import EpochKey, KeyHidingKey, derive_kid, new_epoch_key_secret
from kveil.proxy.admin.audit import audit
from kveil.proxy.admin.metrics import Metrics
from kveil.proxy.config import Keys, Limits
from kveil.proxy.keys.calls import KeyCalls
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeyUnavailable
from kveil.proxy.keys.flights import Flights
from kveil.proxy.keys.hiding import Authority, HidingKeys
from kveil.proxy.keys.opened import OpenedKeys, Place, RefusalBudget, Refusals, RefusedKeys
from kveil.proxy.keys.provider import KeyContext, KeyProvider
from kveil.proxy.keys.realm import Realm
from kveil.proxy.keys.sealing import EpochInUse, Epochs, Leases
from kveil.proxy.policy import KeyRef, Rule

SECONDS_PER_HOUR: Final = 3600
# How late a change of the key file may be noticed while sealing goes on. One stat() in that time costs nothing.
LOOK_SECONDS: Final = 5.0
# How soon a lease that couldn't be renewed is tried again while it still holds.
RENEWAL_RETRY_SECONDS: Final = 10.0


class KeySurvey(NamedTuple):
    """What a ring holds: nothing secret."""

    epochs: Mapping[str, EpochInUse]
    """By topic: the keys that seal."""
    opened: int
    refused: int


class KeyRing:
    """All epoch keys of one process. Must not be carried over a fork."""

    def __init__(
        self,
        providers: Mapping[int, KeyProvider],
        realm: Realm,
        keys: Keys,
        limits: Limits,
        *,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._realm = realm
        self._clock = clock
        self._looked = clock()
        self._calls = {
            number: KeyCalls(provider, keys.call_timeout_seconds, metrics, clock)
            for number, provider in providers.items()
        }
        self._epochs = Epochs(limits.epoch_key_hours * SECONDS_PER_HOUR)
        self._leases = Leases(keys.seal_lease_seconds)
        self._opened = OpenedKeys(limits.opened_keys, keys.unwrap_cache_seconds)
        self._refused = RefusedKeys(limits.refused_key_seconds)
        self._refusals = RefusalBudget(limits.refused_key_seconds)
        # Of topics: a producer that goes on trying costs no further calls.
        self._denials: Refusals[tuple[str, KeyRef]] = Refusals(limits.refused_key_seconds)
        self._hiding = HidingKeys(realm, self._calls, limits.refused_key_seconds, clock)
        self._renewals: Flights[tuple[str, KeyRef], EpochKey] = Flights()
        self._lease_renewals: Flights[KeyRef, None] = Flights()
        self._unwraps: Flights[Place, EpochKey] = Flights()

    @property
    def realm(self) -> str:
        """The deployment that the keys belong to."""
        return self._realm.name

    @property
    def providers(self) -> Mapping[int, KeyProvider]:
        """Who wraps, by their numbers in envelopes."""
        return {number: calls.provider for number, calls in self._calls.items()}

    # Sealing -----------------------------------------------------------------------------------------------------

    def sealing_key(self, topic: str, rule: Rule, now: float) -> EpochKey | None:
        """The epoch key that seals `topic` now, or None: `renew` is needed.

        `now` is in seconds, of the same clock as the ring's.
        """
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._refresh()
        lease = self._leases.current(rule.key, now)
        if lease is None:
            return None
        if now >= lease.due:
            self._leases.postpone(rule.key, now + RENEWAL_RETRY_SECONDS)
            self._lease_renewals.begin(rule.key, lambda: self._renew_lease(topic, rule.key))
        return self._epochs.current(topic, rule.key, lease.version, now)

    @property
    def hiding_key_id(self) -> bytes | None:
        """The id of the key-hiding key, None if none was made, or handed out yet."""
        return self._hiding.key_id

    @property
    def kept_hiding_key_id(self) -> bytes | None:
        """The same of the key file's alone."""
        return self._realm.hiding_key.id if self._realm.hiding_key else None

    @property
    def awaits_hiding_key(self) -> bool:
        """Whether somebody hands it out, so that it may come."""
        return self._hiding.authority is not None

    def take_hiding_key_of(self, authority: Authority) -> None:
        """Have an authority hand out the key-hiding key, or see to it that the key file's is the same."""
        self._hiding.authority = authority

    def hiding_key(self, topic: str, *, seals: bool = False) -> KeyHidingKey | None:
        """What hides the keys of the topic's records in record mode, or None: `unwrap_hiding_key` is needed."""
        return self._hiding.find(topic, seals=seals)

    def hiding_secret(self) -> bytes:
        """The key-hiding key itself. Raises KeyUnavailable before `unwrap_hiding_key`."""
        return self._hiding.secret()

    def wraps_hiding_key(self, key: KeyRef) -> bool:
        """Whether the key-hiding key is kept wrapped by this key, and would be lost with it."""
        return self._hiding.is_wrapped_by(key)

    async def unwrap_hiding_key(self) -> None:
        """Makes `hiding_key` have an answer. Raises KeyDenied or KeyUnavailable."""
        await self._hiding.unwrap()

    async def renew(self, topic: str, rule: Rule) -> EpochKey:
        """A usable epoch key for `topic`, made if there is none. Raises KeyDenied or KeyUnavailable."""
        return await self._renewals.join((topic, rule.key), lambda: self._renew(topic, rule))

    async def _renew(self, topic: str, rule: Rule) -> EpochKey:
        self._refresh()
        if self._leases.current(rule.key, self._clock()) is None and self._epochs.wrapped_by(topic, rule.key):
            await self._lease_renewals.join(rule.key, lambda: self._renew_lease(topic, rule.key))
        # Whoever came a moment late, after the call that it would have joined, finds the key here.
        now = self._clock()
        lease = self._leases.current(rule.key, now)
        present = self._epochs.current(topic, rule.key, lease.version, now) if lease else None
        if present is not None:
            return present
        secret, kid, block = await self._wrapped(topic, rule.key)
        key = EpochKey(secret=secret, realm=self.realm, topic=topic, kid=kid, block=block)
        # Its age counts from before the call, which may have been slow.
        self._epochs.begin(key, now)
        self._opened.put((topic, kid, block), key, now)
        audit("key.created", topic, kid=kid.hex(), key=str(rule.key), version=block.version)
        return key

    async def make_key(self, topic: str, key: KeyRef) -> EpochKey:
        """A new key of `topic` that seals nothing by itself, as if it had been unwrapped just now.

        :raises KeyDenied, KeyUnavailable: it can't be made.
        """
        asked = self._clock()
        secret, kid, block = await self._wrapped(topic, key)
        made = EpochKey(secret=secret, realm=self.realm, topic=topic, kid=kid, block=block)
        self._opened.put((topic, kid, block), made, asked)
        audit("key.created", topic, kid=kid.hex(), key=str(key), version=block.version)
        return made

    async def _renew_lease(self, topic: str, key: KeyRef) -> None:
        """Wraps a secret that nothing is sealed with: that takes the same right, and names the primary version."""
        await self._wrapped(topic, key)

    async def _wrapped(self, topic: str, key: KeyRef) -> tuple[bytes, bytes, KeyBlock]:
        """A new secret, its kid and its wrap. Raises KeyDenied or KeyUnavailable."""
        asked = self._clock()
        self._denials.check((topic, key), asked)
        secret = new_epoch_key_secret()
        kid = derive_kid(secret, realm=self.realm, topic=topic, provider=key.provider)
        calls = self._calls_to(key.provider)
        try:
            block = await calls.wrap(key.name, secret, KeyContext(self.realm, topic, kid))
        except KeyDenied as error:
            self._leases.end(key)
            self._denials.put((topic, key), error, self._clock())
            audit("key.refused", topic, key=str(key), reason=str(error))
            raise
        self._leases.renew(key, block.version, asked)
        return secret, kid, block

    def note_use(self, key: EpochKey, nbytes: int) -> None:
        """Counts one sealed batch of `nbytes` plaintext against the key's limits."""
        self._epochs.note_use(key, nbytes)

    # Opening -----------------------------------------------------------------------------------------------------

    def opening_key(self, topic: str, kid: bytes, block: KeyBlock, rule: Rule) -> EpochKey | None:
        """The epoch key that opens an envelope of `topic`, or None: `unwrap` is needed.

        `topic` is the reader's own view, or what the rule's `sealed_as` made of it: both find the same key.

        :raises KeyRefused, KeyDenied: it isn't to be had.
        """
        place = _admitted(topic, kid, block, rule)
        now = self._clock()
        key = self._opened.get(place, now)
        if key is None:
            self._refused.check(place, now)
        return key

    async def unwrap(self, topic: str, partition: int, kid: bytes, block: KeyBlock, rule: Rule) -> EpochKey:
        """The epoch key of an envelope that was found in a partition, unwrapped if it isn't known.

        :raises KeyRefused, KeyDenied, KeyUnavailable: it isn't to be had.
        """
        place = _admitted(topic, kid, block, rule)
        now = self._clock()
        key = self._opened.get(place, now)
        if key is not None:
            return key
        self._refused.check(place, now)
        if self._refusals.is_spent(topic, partition, now):
            msg = f"too many keys of {topic}/{partition} were refused just now: no further ones are asked for yet"
            raise KeyUnavailable(msg)
        try:
            return await self._unwraps.join(place, lambda: self._unwrap(place))
        except (KeyRefused, KeyDenied):
            self._refusals.note(topic, partition, self._clock())
            raise

    async def _unwrap(self, place: Place) -> EpochKey:
        topic, kid, block = place
        self._refresh()
        asked = self._clock()
        named = str(KeyRef(block.provider, block.name))
        try:
            secret = await self._calls_to(block.provider).unwrap(block, KeyContext(self.realm, topic, kid))
            key = self._checked(place, secret)
        except (KeyRefused, KeyDenied) as error:
            self._refused.put(place, error, self._clock())
            audit("key.refused", topic, kid=kid.hex(), key=named, reason=str(error))
            raise
        self._opened.put(place, key, asked)
        audit("key.unwrapped", topic, kid=kid.hex(), key=named, version=block.version)
        return key

    def _checked(self, place: Place, secret: bytes) -> EpochKey:
        """EpochKey recomputes the kid after every unwrap: a provider may have answered with another key."""
        topic, kid, block = place
        try:
            return EpochKey(secret=secret, realm=self.realm, topic=topic, kid=kid, block=block)
        except Unopenable as error:
            msg = f"what key {block.name!r} unwrapped is not the epoch key that the envelope names: {error}"
            raise KeyRefused(msg) from None

    def _calls_to(self, provider: int) -> KeyCalls:
        calls = self._calls.get(provider)
        if calls is None:  # asked for by a rule that has since gone, and its key service with it
            raise KeyUnavailable("its key service isn't among the configured ones any more")
        return calls

    # Life --------------------------------------------------------------------------------------------------------

    def survey(self) -> "KeySurvey":
        """What is held now, for people and metrics."""
        now = self._clock()
        return KeySurvey(self._epochs.in_use(now), opened=len(self._opened), refused=len(self._refused))

    def reload(self) -> None:
        """Begins new epoch keys and looks for changed keys now, as SIGHUP asks."""
        self._refresh()
        self._epochs.end()
        self._leases.end_all()
        self._denials.clear()

    def _refresh(self) -> None:
        """What was refused gets another chance if keys have changed, and primary versions are asked for again."""
        changed = [calls.provider.refresh() for calls in self._calls.values()]  # each of them is to look
        if any(changed):
            self._refused.clear()
            self._denials.clear()
            self._leases.end_all()

    async def close(self) -> None:
        """Lets go of the key services."""
        await asyncio.gather(*(calls.provider.close() for calls in self._calls.values()))


def _admitted(topic: str, kid: bytes, block: KeyBlock, rule: Rule) -> Place:
    """Where the key is kept, if the rule accepts it. Checked before anything is looked up, hits included."""
    if (block.provider, block.name) not in rule.accept_keys:
        msg = f"key {block.name!r} of provider {block.provider} is not among those that the rule accepts"
        raise KeyRefused(msg)
    return rule.sealed_as or topic, kid, block
