"""Epoch keys of provider 7: made and announced by those who produce, opened by those to whom they are wrapped.

As with the ring a frame asks first without waiting (`sealing_key`, `opening_key`), and waits for `renew` or `unwrap`
where that isn't enough. Nobody is asked for a lease or an unwrap: what the control topic says is judged here, again
after each record that may change it, and once a second, since credentials and checkpoints end by themselves.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_schedule import EpochKey
from kveil.protocol.identity.announcement import Ending
from kveil.protocol.identity.chains import Announced
from kveil.protocol.identity.credential import History, Role
from kveil.protocol.identity.progress import Mark
from kveil.protocol.identity.view import Verdict
from kveil.proxy.admin.audit import audit
from kveil.proxy.config import Limits
from kveil.proxy.identity.announcing import Announcer, NewEpoch
from kveil.proxy.identity.control import Control
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.opening import find_epoch_key
from kveil.proxy.keys.beacons import Beacons
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeyUnavailable
from kveil.proxy.keys.flights import Flights
from kveil.proxy.keys.handed import HandedKey
from kveil.proxy.keys.lanes import Lanes
from kveil.proxy.keys.opened import Place, RefusalBudget, Refusals, RefusedKeys
from kveil.proxy.keys.ring import SECONDS_PER_HOUR, KeySurvey
from kveil.proxy.keys.sealing import Epochs
from kveil.proxy.keys.streams import End, Streams
from kveil.proxy.keys.transactions import Transactions
from kveil.proxy.log import get_logger, log_limited
from kveil.proxy.policy import KeyRef, Rule
from kveil.proxy.private_file import Stamp

# How late the end of a credential or of a checkpoint may be noticed.
LOOK_SECONDS: Final = 1.0
_log = get_logger(__name__)


class _Opened(NamedTuple):
    """An epoch key that was opened, by which announcement of whom, and after which changes it was judged last."""

    key: EpochKey
    announced: bytes
    producer: str
    changes: int
    end: End | None


class AnnouncedKeys:
    """All of one process."""

    def __init__(
        self,
        control: Control,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
        is_alone: bool = True,
    ) -> None:
        """`is_alone`: no other process of this host serves the same clients."""
        self.control = control
        self.hiding_key = HandedKey(control)
        """What the authority has handed out for all members to hide records' keys with."""
        self.announcements = 0
        """How many were made."""
        seconds = limits.epoch_key_hours * SECONDS_PER_HOUR
        self._clock = clock
        self._announcer = Announcer(control, int(seconds))
        self._beacons = Beacons(control, self._announcer, clock=clock, is_alone=is_alone)
        self._epochs = Epochs(seconds)
        self._sealing: dict[str, NewEpoch] = {}
        self._last: dict[str, bytes] = {}  # the last kid of each topic, until another one replaces it
        self._opened: OrderedDict[Place, _Opened] = OrderedDict()
        self._opened_most = limits.opened_keys
        self._readers: dict[str, KeyDenied | None] = {}
        self._refused = RefusedKeys(limits.refused_key_seconds)
        self._refusals = RefusalBudget(limits.refused_key_seconds)
        self._denials: Refusals[str] = Refusals(limits.refused_key_seconds)
        self._renewals: Flights[str, EpochKey] = Flights()
        self._unwraps: Flights[Place, None] = Flights()
        self._looked = float("-inf")
        self._seen = -1
        self._rotation: Stamp | None = control.node.files.rotation()
        self._broken: str | None = None

    # Life --------------------------------------------------------------------------------------------------------

    async def begin(self, *, seals: bool) -> None:
        """Read the control topic, and find this process's chain as it was left.

        :raises IdentityError: what this node remembers was rolled back.
        :raises KeyUnavailable: the topic can't be read or written now. It will be tried again when a key is needed.
        """
        await self._read()
        if seals:
            await self._announcer.settle()

    @property
    def lanes(self) -> Lanes:
        """Where batches stand that are sealed with these keys."""
        return self._beacons.lanes

    @property
    def transactions(self) -> Transactions:
        """How those ended that clients ran."""
        return self._beacons.transactions

    @property
    def streams(self) -> Streams:
        """Where batches stand that are opened."""
        return self._beacons.streams

    async def tell(self, *, last: bool = False) -> None:
        """Publish how far this process has sealed, and all replicas have it. Raises KeyDenied or KeyUnavailable."""
        await self._beacons.tell(last=last)

    def reload(self) -> None:
        """Begin new epochs, as SIGHUP asks."""
        self._end_epochs()
        self._denials.clear()
        self._refused.clear()

    def close(self) -> None:
        """Leave the chain to another process."""
        self._announcer.close()

    def survey(self) -> KeySurvey:
        """What is held now, for people and metrics."""
        epochs = self._epochs.in_use(self._clock())
        return KeySurvey(epochs, opened=len(self._opened), refused=len(self._refused))

    def trouble(self, *, seals: bool) -> str | None:
        """Why clients can't be served, None if they can."""
        if (unread := self.control.unread()) is not None:
            return unread
        stop = self.control.sealing_stop() if seals else self.control.opening_stop()
        if stop is None and seals:
            stop = self._broken
        try:
            self.control.own_credential()
        except KeyDenied as error:
            stop = stop or str(error)
        return stop

    async def _read(self) -> None:
        if not self.control.is_read:
            await self.control.catch_up()

    def _look(self, now: float) -> None:
        """Judge again what doesn't depend on a single envelope."""
        if self._seen != self.control.changes:
            self._seen = self.control.changes
            self._refused.clear()
            self._denials.clear()
        self._looked = now
        self._readers.clear()
        rotation = self.control.node.files.rotation()
        if rotation != self._rotation:
            self._rotation = rotation
            self._end_epochs()
        for topic, epoch in list(self._sealing.items()):
            if not self._may_go_on(topic, epoch):
                del self._sealing[topic]

    def _end_epochs(self) -> None:
        self._sealing.clear()
        self._epochs.end()

    def _is_stale(self, now: float) -> bool:
        return now - self._looked >= LOOK_SECONDS or self._seen != self.control.changes

    # Sealing -----------------------------------------------------------------------------------------------------

    def sealing_key(self, topic: str, rule: Rule, now: float) -> EpochKey | None:
        """The epoch key that seals `topic` now, or None: `renew` is needed. `now` is of the same clock as here."""
        if self._is_stale(now):
            self._look(now)
        epoch = self._sealing.get(topic)
        if epoch is None or self.lanes.is_full(epoch.key.kid):
            return None
        return self._epochs.current(topic, rule.key, epoch.key.block.version, now)

    def _may_go_on(self, topic: str, epoch: NewEpoch) -> bool:
        """Whether a topic may be sealed with what was announced for it."""
        control = self.control
        if control.sealing_stop() is not None:
            return False
        try:
            listed = control.own_credential()
        except KeyDenied:
            return False
        if not listed.credential.may(Role.PRODUCE, topic) or epoch.demands != self._announcer.demands:
            return False
        wanted = {one.keys.id: one.history for one in control.view.recipients(topic, control.now)}
        # Who joins without history begins no epoch.
        added = [one for one in wanted if one not in epoch.recipients and wanted[one] is not History.NONE]
        return not added and epoch.recipients <= wanted.keys()

    async def renew(self, topic: str, rule: Rule) -> EpochKey:
        """A usable epoch key for `topic`, announced if there is none. Raises KeyDenied or KeyUnavailable."""
        return await self._renewals.join(topic, lambda: self._renew(topic, rule))

    async def _renew(self, topic: str, rule: Rule) -> EpochKey:
        await self._read()
        now = self._clock()
        present = self.sealing_key(topic, rule, now)
        if present is not None:
            return present
        self._denials.check(topic, now)
        try:
            epoch = await self._announced(topic, rule)
        except IdentityError as error:
            self._broken = str(error)
            _log.error("identity_broken", reason=str(error))
            raise KeyUnavailable(str(error)) from None
        except KeyUnavailable as error:  # its producers stand still meanwhile
            log_limited(_log.warning, "epoch_key_not_announced", key=topic, topic=topic, reason=str(error))
            raise
        except KeyDenied as error:
            self._denials.put(topic, error, self._clock())
            audit("key.refused", topic, key=str(rule.key), reason=str(error))
            raise
        self._broken = None
        self.announcements += 1
        key = epoch.key
        # Its age counts from before the announcement, which may have been slow.
        self._epochs.begin(key, now)
        self._sealing[topic] = epoch
        if (last := self._last.get(topic)) is not None:
            self._beacons.replaced(last)
        self._last[topic] = key.kid
        # Who may read it can have changed meanwhile, and that have been seen to before this topic was there.
        self._looked = float("-inf")
        told = {"kid": key.kid.hex(), "key": str(rule.key), "version": key.block.version}
        audit("key.created", topic, None, **told, readers=len(epoch.recipients))
        return key

    async def _announced(self, topic: str, rule: Rule) -> NewEpoch:
        last = self._last.get(topic)
        ending = None
        if last is not None:
            self._sealing.pop(topic, None)  # nothing more is sealed with it, whatever comes
            ending = Ending(kid=last, marks=tuple(mark for mark in self.lanes.marks(last) if mark.batches))
        try:
            return await self._announcer.announce(topic, sign=rule.sign, replaces=ending)
        except KeyDenied:
            # Who was granted a moment ago isn't to wait until the topic is heard of again.
            await self.control.catch_up()
            return await self._announcer.announce(topic, sign=rule.sign, replaces=ending)

    def note_use(self, key: EpochKey, nbytes: int) -> None:
        """Counts one sealed batch of `nbytes` plaintext against the key's limits."""
        self._epochs.note_use(key, nbytes)

    def producer_of(self, kid: bytes) -> str:
        """What people call whose key it is."""
        judged = next(iter(self.control.view.announcements(kid)), None)
        return "" if judged is None else self.control.name_of(judged.announced.announcement.epoch.producer)

    # Opening -----------------------------------------------------------------------------------------------------

    def opening_key(self, topic: str, kid: bytes, block: KeyBlock, rule: Rule) -> EpochKey | None:
        """The epoch key that opens an envelope of `topic`, or None: `unwrap` is needed.

        :raises KeyRefused: its announcement doesn't count, or not any more.
        :raises KeyDenied: this node may not read it.
        """
        place = _admitted(topic, kid, block, rule)
        if not self.control.is_read:
            return None
        now = self._clock()
        if self._is_stale(now):
            self._look(now)
        self._check_reader(place[0])
        found = self._opened.get(place)
        if found is None:
            self._refused.check(place, now)
            return None
        if found.changes != self._seen and not self._counts_still(place, found):
            del self._opened[place]
            return None
        if rule.sealed_by is not None and found.producer not in rule.sealed_by:
            raise KeyRefused(f"it was sealed by {found.producer}, whom the rule's sealed_by doesn't name")
        self._opened.move_to_end(place)
        return found.key

    def end_of(self, topic: str, kid: bytes, block: KeyBlock, rule: Rule) -> End | None:
        """How far the batches count that a key opens, which `opening_key` has just given. None without an end."""
        found = self._opened.get(_admitted(topic, kid, block, rule))
        return None if found is None else found.end

    def _check_reader(self, topic: str) -> None:
        """Raises KeyDenied if this node may not read the topic now."""
        if topic not in self._readers:
            self._readers[topic] = self._reader_denial(topic)
        denial = self._readers[topic]
        if denial is not None:
            raise KeyDenied(*denial.args)

    def _reader_denial(self, topic: str) -> KeyDenied | None:
        if self.control.view.checkpoint is None:
            return None  # nobody is known to be anything, and nothing opens
        try:
            credential = self.control.own_credential().credential
        except KeyDenied as error:
            return error.with_traceback(None)
        if credential.history_of(topic) is None:
            return KeyDenied(f"{credential.name} wasn't granted to consume from {topic}")
        return None

    def _counts_still(self, place: Place, found: _Opened) -> bool:
        """Whether the announcement by which a key was opened still counts; if so, that is remembered."""
        if self.control.opening_stop() is None:  # else what is open stays so
            judged = self.control.view.announcement(found.announced)
            if judged is None or judged.verdict is not Verdict.ACCEPTED:
                return False
            found = found._replace(end=_end(judged.closed_at, found.producer))
        self._opened[place] = found._replace(changes=self._seen)
        return True

    async def unwrap(self, topic: str, partition: int, kid: bytes, block: KeyBlock, rule: Rule) -> EpochKey:
        """The epoch key of an envelope that was found in a partition, after a look at all that the control topic says.

        :raises KeyRefused, KeyDenied, KeyUnavailable: it isn't to be had.
        """
        place = _admitted(topic, kid, block, rule)
        await self._read()
        key = self.opening_key(topic, kid, block, rule)
        if key is not None:
            return key
        if self._refusals.is_spent(topic, partition, self._clock()):
            msg = f"too many keys of {topic}/{partition} were refused just now: no further ones are looked for yet"
            raise KeyUnavailable(msg)
        try:
            await self._unwraps.join(place, lambda: self._unwrap(place))
        except (KeyRefused, KeyDenied):
            self._refusals.note(topic, partition, self._clock())
            raise
        key = self.opening_key(topic, kid, block, rule)
        if key is None:
            raise KeyUnavailable("who may seal and read has changed just now: try again")
        return key

    async def _unwrap(self, place: Place) -> None:
        topic, kid, block = place
        if not self.control.view.announcements(kid):
            await self.control.catch_up()
            if not self.control.view.announcements(kid):
                self.control.note_missing()
        named = str(KeyRef(block.provider, block.name))
        changes = self.control.changes
        try:
            if (stop := self.control.opening_stop()) is not None:
                raise KeyUnavailable(f"nothing is opened that wasn't open already: {stop}")
            found = find_epoch_key(self.control.view, self.control.node.identity, topic, kid)
        except KeyUnavailable as error:  # its consumers stand still meanwhile
            log_limited(_log.warning, "epoch_key_missing", key=place, topic=topic, kid=kid.hex(), reason=str(error))
            raise
        except (KeyRefused, KeyDenied) as error:
            self._refused.put(place, error, self._clock())
            audit("key.refused", topic, kid=kid.hex(), key=named, reason=str(error))
            raise
        producer = self._producer_of(found.announced)
        end = _end(found.closed_at, producer)
        self._opened[place] = _Opened(found.key, found.announced.hash, producer, changes, end)
        if len(self._opened) > self._opened_most:
            self._opened.popitem(last=False)
        audit("key.unwrapped", topic, kid=kid.hex(), key=named, version=block.version, producer=producer)

    def _producer_of(self, announced: Announced) -> str:
        """The name that its credential gave it, also where it isn't a member any more."""
        credential = self.control.view.credential(announced.announcement.epoch.credential)
        return "" if credential is None else credential.name


def _end(marks: tuple[Mark, ...] | None, producer: str) -> End | None:
    """From an announcement's verdict."""
    return None if marks is None else End(producer, {(mark.partition, mark.lane): mark.batches for mark in marks})


def _admitted(topic: str, kid: bytes, block: KeyBlock, rule: Rule) -> Place:
    """Where the key is kept, if the rule accepts it."""
    if (block.provider, block.name) not in rule.accept_keys:
        msg = f"announced keys of {block.name!r} are not among those that the rule accepts"
        raise KeyRefused(msg)
    return rule.sealed_as or topic, kid, block
