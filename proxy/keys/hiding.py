"""The key-hiding key, and the key of each topic that is made of it (FORMAT.md, section 10.2).

A key file holds it as it is, or wrapped by a key service; or a realm's authority hands it to each member. In the last
two cases each process unwraps it once, when record mode first needs it, and keeps it: it never changes while there is
data, and opens none.
"""

import secrets
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.envelope.key_schedule import HIDING_KEY_LENGTH, KeyHidingKey, WireKeys, derive_hiding_key_id
from kveil.proxy.admin.audit import audit
from kveil.proxy.keys.calls import KeyCalls
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeyUnavailable
from kveil.proxy.keys.flights import Flights
from kveil.proxy.keys.keyfile import HidingKey, WrappedHidingKey, today
from kveil.proxy.keys.provider import KeyContext
from kveil.proxy.keys.realm import Realm
from kveil.proxy.log import get_logger, log_limited
from kveil.proxy.policy import KeyRef

_log = get_logger(__name__)

NOT_MADE: Final = (
    "no key-hiding key was made, and record mode hides records' keys: `kveil keys init` with this configuration makes "
    "one, before a restart; or the topic's rule says `keys: clear`"
)


async def wrap_new_hiding_key(calls: KeyCalls, name: str, realm: str) -> WrappedHidingKey:
    """A new key-hiding key under the key of that name. Raises KeyDenied or KeyUnavailable."""
    secret = secrets.token_bytes(HIDING_KEY_LENGTH)
    identifier = derive_hiding_key_id(secret, realm=realm)
    block = await calls.wrap(name, secret, KeyContext(realm, "", identifier))
    return WrappedHidingKey(id=identifier, created=today(), block=block)


async def unwrap_hiding_key(calls: KeyCalls, wrapped: WrappedHidingKey, realm: str) -> HidingKey:
    """The key-hiding key, if it is the one that its id names. Raises KeyDenied or KeyUnavailable."""
    try:
        secret = await calls.unwrap(wrapped.block, KeyContext(realm, "", wrapped.id))
        is_right = derive_hiding_key_id(secret, realm=realm) == wrapped.id
    except (KeyRefused, Unopenable):
        is_right = False
    if not is_right:
        msg = (
            f"what key {wrapped.block.name} of {calls.provider.place} unwraps is not the key-hiding key of {realm}: "
            "restore the key file and that key from your backups; never make a new one while there is data"
        )
        raise KeyDenied(msg)
    return HidingKey(id=wrapped.id, created=wrapped.created, secret=secret)


class Authority(Protocol):
    """Whoever hands the key out."""

    @property
    def key_id(self) -> bytes | None:
        """The id of the key that this node was handed, None if it wasn't yet."""

    def agrees(self, kept: bytes | None) -> bool:
        """Whether records' keys may be hidden. `kept` is the id of a key that is there beside, from a key file."""

    async def check(self, kept: bytes | None) -> None:
        """Raises KeyDenied or KeyUnavailable unless records' keys may be hidden."""

    async def open(self) -> HidingKey:
        """The key itself. Raises KeyDenied, or KeyUnavailable if it isn't there yet."""


class HidingKeys:
    """What hides the records' keys of each topic."""

    def __init__(
        self, realm: Realm, calls: Mapping[int, KeyCalls], denied_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._realm = realm
        self._calls = calls
        self._denied_seconds = denied_seconds
        self._clock = clock
        self._kept_id = None if realm.hiding_key is None else realm.hiding_key.id
        self._plain = realm.hiding_key if isinstance(realm.hiding_key, HidingKey) else None
        self.authority: Authority | None = None
        """None where no rule names keys of identities."""
        self._denied: tuple[float, str] = (0.0, "")
        self._by_topic: dict[str, KeyHidingKey] = {}
        self._wire_keys = WireKeys()
        self._unwraps: Flights[str, None] = Flights()

    @property
    def key_id(self) -> bytes | None:
        """The id of the key, None if none was made, or handed out, as far as is known."""
        if self._plain is not None:
            return self._plain.id
        return self._kept_id if self._kept_id is not None or self.authority is None else self.authority.key_id

    def find(self, topic: str, *, seals: bool = False) -> KeyHidingKey | None:
        """The topic's, None if `unwrap` is needed or none was made.

        `seals`: other members are to hide with the same. What was hidden with one that is there is found all the same.
        """
        if seals and self.authority is not None and not self.authority.agrees(self._own_id):
            return None
        found = self._by_topic.get(topic)
        if found is None and (plain := self._plain) is not None:
            found = self._by_topic[topic] = KeyHidingKey(
                id=plain.id, secret=plain.secret, realm=self._realm.name, topic=topic, remembered=self._wire_keys
            )
        return found

    @property
    def _own_id(self) -> bytes | None:
        return self._kept_id if self._plain is None else self._plain.id

    def secret(self) -> bytes:
        """The key-hiding key itself. Raises KeyUnavailable if `unwrap` is needed."""
        if self._plain is None:
            raise KeyUnavailable("the key-hiding key was not unwrapped yet")
        return self._plain.secret

    def is_wrapped_by(self, key: KeyRef) -> bool:
        """Whether this key keeps it."""
        kept = self._realm.hiding_key
        return isinstance(kept, WrappedHidingKey) and (kept.block.provider, kept.block.name) == key

    async def unwrap(self) -> None:
        """Has the key service or the authority give it, if none has yet. Raises KeyDenied or KeyUnavailable."""
        until, reason = self._denied
        if self._clock() < until:
            raise KeyDenied(reason)
        await self._unwraps.join("", self._unwrap)

    async def _unwrap(self) -> None:
        wrapped = self._realm.hiding_key
        if self.authority is not None:
            await self._take(self.authority)
        elif wrapped is None:
            raise KeyDenied(NOT_MADE)
        if self._plain is not None or wrapped is None or isinstance(wrapped, HidingKey):
            return
        try:
            self._plain = await unwrap_hiding_key(self._calls[wrapped.block.provider], wrapped, self._realm.name)
        except KeyDenied as error:
            self._denied = self._clock() + self._denied_seconds, str(error)
            audit("key.refused", self._realm.name, kid=wrapped.id.hex(), key=wrapped.block.name, reason=str(error))
            raise
        audit("key.unwrapped", self._realm.name, kid=wrapped.id.hex(), key=wrapped.block.name)

    async def _take(self, authority: Authority) -> None:
        """Have the authority's, or find that it is the one that is there."""
        own = self._own_id
        try:
            await authority.check(own)
            if own is None:
                self._plain = await authority.open()
                audit("key.unwrapped", self._realm.name, kid=self._plain.id.hex())
        except KeyDenied as error:
            self._denied = self._clock() + self._denied_seconds, str(error)
            audit("key.refused", self._realm.name, kid=(own or b"").hex(), reason=str(error))
            raise
        except KeyUnavailable as error:
            log_limited(_log.warning, "hiding_key_missing", key=self._realm.name, reason=str(error))
            raise
