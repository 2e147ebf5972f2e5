"""The epoch keys of this process: those that seal now, and those that opened what was read.

A frame asks first without waiting (`sealing_key`, `opening_key`), which nearly always answers. Where not, the
shell waits for `renew` or `unwrap` and asks again. Concurrent needs for the same key make one call.
"""

import time
from collections.abc import Callable
from typing import Final

from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_schedule import EpochKey, KeyHidingKey, WireKeys, derive_kid, new_epoch_key_secret
from kveil.proxy.admin.audit import audit
from kveil.proxy.config import Limits
from kveil.proxy.keys.errors import KeyRefused
from kveil.proxy.keys.flights import Flights
from kveil.proxy.keys.opened import OpenedKeys, Place, RefusedKeys
from kveil.proxy.keys.provider import KeyProvider
from kveil.proxy.keys.sealing import Epochs
from kveil.proxy.policy import Rule

SECONDS_PER_HOUR: Final = 3600
# How late a rotation may be noticed while sealing goes on. One stat() in that time costs nothing.
LOOK_SECONDS: Final = 5.0


class KeyRing:
    """All epoch keys of one process, over one provider. Must not be carried over a fork."""

    def __init__(self, provider: KeyProvider, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._provider = provider
        self._clock = clock
        self._looked = clock()
        self._epochs = Epochs(limits.epoch_key_hours * SECONDS_PER_HOUR)
        self._opened = OpenedKeys(limits.opened_keys)
        self._refused = RefusedKeys(limits.refused_key_seconds)
        self._hiding: dict[str, KeyHidingKey] = {}
        self._wire_keys = WireKeys()
        self._renewals: Flights[tuple[str, str], EpochKey] = Flights()
        self._unwraps: Flights[Place, EpochKey] = Flights()

    @property
    def provider(self) -> KeyProvider:
        """Who wraps, for status and health."""
        return self._provider

    @property
    def realm(self) -> str:
        """The deployment that the keys belong to."""
        return self._provider.realm

    def sealing_key(self, topic: str, rule: Rule, now: float) -> EpochKey | None:
        """The epoch key that seals `topic` now, or None: `renew` is needed.

        `now` is in seconds, of the same clock as the ring's.
        """
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self.reload()
        return self._epochs.current(topic, rule.key, self._provider.primary_version(rule.key), now)

    def hiding_key(self, topic: str) -> KeyHidingKey | None:
        """What hides the keys of the topic's records in record mode, None if the provider has none."""
        hiding = self._hiding.get(topic)
        if hiding is None and (found := self._provider.hiding_key()) is not None:
            hiding = KeyHidingKey(
                id=found.id, secret=found.secret, realm=self.realm, topic=topic, remembered=self._wire_keys
            )
            self._hiding[topic] = hiding
        return hiding

    async def renew(self, topic: str, rule: Rule) -> EpochKey:
        """A usable epoch key for `topic`, made if there is none. Raises KeyRefused or KeyUnavailable."""
        return await self._renewals.join((topic, rule.key), lambda: self._renew(topic, rule))

    async def _renew(self, topic: str, rule: Rule) -> EpochKey:
        self.reload()
        # Whoever came a moment late, after the call that it would have joined, finds the key here.
        present = self._epochs.current(topic, rule.key, self._provider.primary_version(rule.key), self._clock())
        if present is not None:
            return present
        began = self._clock()
        secret = new_epoch_key_secret()
        kid = derive_kid(secret, realm=self.realm, topic=topic, provider=self._provider.id)
        block = await self._provider.wrap(topic, kid, secret, rule.key)
        key = EpochKey(secret=secret, realm=self.realm, topic=topic, kid=kid, block=block)
        # Its age counts from before the call, which may have been slow.
        self._epochs.begin(key, began)
        self._opened.put((topic, kid, block), key)
        audit("key.created", topic, kid=kid.hex(), key=block.name, version=block.version)
        return key

    def note_use(self, key: EpochKey, nbytes: int) -> None:
        """Counts one sealed batch of `nbytes` plaintext against the key's limits."""
        self._epochs.note_use(key, nbytes)

    def opening_key(self, topic: str, kid: bytes, block: KeyBlock, rule: Rule) -> EpochKey | None:
        """The epoch key that opens an envelope of `topic`, or None: `unwrap` is needed. Raises KeyRefused.

        `topic` is the reader's own view, or what the rule's `sealed_as` made of it: both find the same key.
        """
        place = _admitted(topic, kid, block, rule)
        key = self._opened.get(place)
        if key is None:
            self._check_not_refused(place)
        return key

    async def unwrap(self, topic: str, kid: bytes, block: KeyBlock, rule: Rule) -> EpochKey:
        """The epoch key of an envelope, unwrapped if it isn't known. Raises KeyRefused or KeyUnavailable."""
        place = _admitted(topic, kid, block, rule)
        key = self._opened.get(place)
        if key is not None:
            return key
        self._check_not_refused(place)
        return await self._unwraps.join(place, lambda: self._unwrap(place))

    async def _unwrap(self, place: Place) -> EpochKey:
        topic, kid, block = place
        self.reload()
        try:
            secret = await self._provider.unwrap(topic, kid, block)
            key = self._checked(place, secret)
        except KeyRefused as error:
            self._refused.put(place, str(error), self._clock())
            audit("key.refused", topic, kid=kid.hex(), key=block.name, reason=str(error))
            raise
        self._opened.put(place, key)
        audit("key.unwrapped", topic, kid=kid.hex(), key=block.name, version=block.version)
        return key

    def _checked(self, place: Place, secret: bytes) -> EpochKey:
        """EpochKey recomputes the kid after every unwrap: a provider may have answered with another key."""
        topic, kid, block = place
        try:
            return EpochKey(secret=secret, realm=self.realm, topic=topic, kid=kid, block=block)
        except Unopenable as error:
            msg = f"what key {block.name!r} unwrapped is not the epoch key that the envelope names: {error}"
            raise KeyRefused(msg) from None

    def _check_not_refused(self, place: Place) -> None:
        reason = self._refused.reason(place, self._clock())
        if reason is not None:
            raise KeyRefused(reason)

    def reload(self) -> None:
        """Looks for changed keys now, as SIGHUP asks. What was refused gets another chance if they have."""
        if self._provider.refresh():
            self._refused.clear()


def _admitted(topic: str, kid: bytes, block: KeyBlock, rule: Rule) -> Place:
    """Where the key is kept, if the rule accepts it. Checked before anything is looked up, hits included."""
    if (block.provider, block.name) not in rule.accept_keys:
        msg = f"key {block.name!r} of provider {block.provider} is not among those that the rule accepts"
        raise KeyRefused(msg)
    return rule.sealed_as or topic, kid, block
