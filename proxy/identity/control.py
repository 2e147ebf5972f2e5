"""The control topic as one process believes it: every record folded in, and the newest checkpoint on disk first.

It is a topic's reader (`net.topic_log`). Nothing here waits but for the log, which whoever follows the topic sets.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from kveil.protocol.identity import CONTROL_TOPIC
from kveil.protocol.identity.alarms import Alarm, AlarmKind
from kveil.protocol.identity.announcement import Announcement
from kveil.protocol.identity.beacon import Beacon
from kveil.protocol.identity.checkpoint import Checkpoint
from kveil.protocol.identity.credential import Credential
from kveil.protocol.identity.fold import Applied, Outcome
from kveil.protocol.identity.hiding import Handed
from kveil.protocol.identity.identity import format_fingerprint
from kveil.protocol.identity.marks import Kept
from kveil.protocol.identity.members import Listed, Standing
from kveil.protocol.identity.record import IdentityRecord, Record
from kveil.protocol.identity.regrant import Regrant
from kveil.protocol.identity.view import View
from kveil.proxy.identity.control_log import ControlLog, KeyValue
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.moments import moment
from kveil.proxy.identity.node import Node
from kveil.proxy.identity.node_files import CheckpointMark
from kveil.proxy.identity.rereading import Rereading
from kveil.proxy.identity.telling import Telling, in_words
from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable
from kveil.proxy.log import get_logger, log_limited

# How late an alarm may be told that no record brings: a lease that ends, for one.
ALARM_SECONDS: Final = 1.0
# What may change who is believed, or what opens. The rest is for people, or for the authority.
_COUNTING: Final = (IdentityRecord, Credential, Checkpoint, Announcement, Regrant, Handed)
_log = get_logger(__name__)


class Control:
    """What a node believes, as it follows the topic."""

    def __init__(self, node: Node, *, clock: Callable[[], float], unix_time: Callable[[], float]) -> None:
        """Raises IdentityError if the newest checkpoint that was seen isn't known any more."""
        mark = node.files.mark()
        self.node = node
        self.view = View(
            realm=node.membership.realm,
            authority=node.membership.authority,
            me=node.identity.id,
            kept=Kept(*mark) if mark.number else None,
        )
        self.log: ControlLog | None = None
        """Whoever follows the topic."""
        self.changes = 0
        """Grows with all that may change an answer."""
        self.is_read = False
        """Whether the topic was read to its end once. Before that nothing is known to be missing."""
        self.when_changed: Callable[[], None] = lambda: None
        """Called after `changes` has grown and all was read."""
        self.when_beacon: Callable[[Beacon], None] = lambda _: None
        """Called with the newest of each process, after all was read."""
        self.when_checkpoint: Callable[[], None] = lambda: None
        """Called when another one counts."""
        self._beacons: dict[tuple[bytes, bytes], Beacon] = {}
        self.outcomes: Counter[Outcome] = Counter()
        self._telling = Telling()
        self._rereading = Rereading()
        self._is_missing = False
        self._told = 0
        self._trouble: str | None = None
        self._clock = clock
        self._unix_time = unix_time
        self._looked_at = float("-inf")
        self._looked_after = -1

    @property
    def me(self) -> bytes:
        """The id of this node."""
        return self.node.identity.id

    @property
    def now(self) -> int:
        """The time of day, in seconds since 1970."""
        return int(self._unix_time())

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """What is wrong with the topic now."""
        return self._telling.alarms

    # What the topic says -----------------------------------------------------------------------------------------

    async def get_ready(self) -> None:
        """All that it takes is there."""

    def apply(self, offset: int, key: bytes | None, value: bytes | None) -> None:  # noqa: ARG002 - these are Kafka's
        """Take one record."""
        for applied in self.view.apply(value).all():
            self.outcomes[applied.outcome] += 1
            if applied.outcome is Outcome.TAKEN and _counts(applied):
                self.changes += 1
            if applied.outcome is Outcome.TAKEN and isinstance(applied.record, Record):
                self._note_beacon(applied.record.body)
        if self.is_read:
            self._keep()

    def heard(self) -> None:
        """All was read that stood on the topic a moment ago."""
        self._keep()
        if not self.is_read:
            self.changes += 1
        self.is_read = True
        self.view.reached_end()
        beacons, self._beacons = self._beacons, {}
        for beacon in beacons.values():
            self.when_beacon(beacon)
        self.look()
        self._read_again()
        if self._told != self.changes:
            self._told = self.changes
            self.when_changed()

    def _note_beacon(self, body: object) -> None:
        if isinstance(body, Beacon):
            self._beacons[body.producer, body.chain] = body

    def _keep(self) -> None:
        """Have the newest checkpoint on disk. It doesn't count before."""
        kept = self.view.to_keep
        if kept is None:
            return
        try:
            self.node.files.keep_mark(CheckpointMark(*kept))
        except IdentityError as error:
            self._trouble = f"checkpoint {kept.number} can't be kept: {error}"
            log_limited(_log.error, "checkpoint_not_kept", key=kept.number, reason=str(error))
            return
        self._trouble = None
        self.view.keep(kept)
        self.changes += 1
        self.when_checkpoint()
        _log.info("checkpoint", number=kept.number, hash=kept.hash.hex())

    def look(self) -> None:
        """Tell what is wrong now. It is to be called as time passes, too: what ends by itself ends without a record."""
        now = self._clock()
        if self._looked_after == self.changes and now - self._looked_at < ALARM_SECONDS:
            return
        self._looked_at, self._looked_after = now, self.changes
        self._telling.tell(self.view.alarms(self.now), self.name_of)
        if self.is_read and self.view.checkpoint is not None:
            self._tell_standing()

    def _tell_standing(self) -> None:
        try:
            self.own_credential()
        except KeyDenied as error:
            self._telling.tell_refusal(self.view.standing(self.me, self.now), str(error))
        else:
            self._telling.tell_refusal(None, "")

    def note_missing(self) -> None:
        """Something is in use that should stand on the topic, and wasn't read there."""
        self._is_missing = True

    def _read_again(self) -> None:
        if self.log is None:
            return
        if self.view.reread_wanted:
            self.view.reading_again()
            self.log.read_again()
        withheld = next((alarm.detail for alarm in self.alarms if alarm.kind is AlarmKind.WITHHELD), None)
        if (withheld is not None or self._is_missing) and self._rereading.is_due(self._clock()):
            self._is_missing = False
            _log.info("control_topic_read_again", reason=withheld or "a key is in use that wasn't announced there")
            self.log.read_again()

    # What is believed --------------------------------------------------------------------------------------------

    def name_of(self, subject: bytes) -> str:
        """What people call a member, or its id where it isn't one now; the realm for nobody."""
        listed = self.view.live().get(subject)
        return listed.credential.name if listed is not None else subject.hex() or self.view.realm

    def unread(self) -> str | None:
        """Why nothing is believed yet, None if the topic was read to its end."""
        if self.is_read:
            return None
        return f"the control topic {CONTROL_TOPIC} wasn't read yet" + (f": {self.log.last_trouble}" if self.log else "")

    def sealing_stop(self) -> str | None:
        """Why nothing may be sealed now, None if it may."""
        alarm = self.view.sealing_stop(self.now)
        return self._trouble if alarm is None else in_words(alarm)

    def opening_stop(self) -> str | None:
        """Why nothing may be opened that isn't open already, None if it may."""
        alarm = self.view.opening_stop()
        return self._trouble if alarm is None else in_words(alarm)

    def own_credential(self) -> Listed:
        """The credential of this node, which counts now.

        :raises KeyDenied: it has none that does.
        """
        now = self.now
        standing = self.view.standing(self.me, now)
        listed = self.view.live().get(self.me)
        if standing is Standing.LIVE and listed is not None:
            return listed
        reason = f"this identity may do nothing: {standing}"
        if listed is not None:
            credential = listed.credential
            times = f"{moment(credential.not_before)} to {moment(credential.expires)}"
            reason += f" (its time is {times}, this host's clock says {moment(now)})"
        fingerprint = format_fingerprint(self.me)
        msg = f"{reason}. Have the authority grant, or enrol this host anew; its fingerprint is {fingerprint}"
        raise KeyDenied(msg)

    # The topic ---------------------------------------------------------------------------------------------------

    async def append(self, records: Sequence[KeyValue]) -> None:
        """As the log's."""
        await self._log().append(records)

    async def catch_up(self) -> None:
        """As the log's."""
        await self._log().catch_up()

    def _log(self) -> ControlLog:
        if self.log is None:
            raise KeyUnavailable(f"the control topic {CONTROL_TOPIC} is not followed here")
        return self.log


def _counts(applied: Applied) -> bool:
    return isinstance(applied.record, Record) and isinstance(applied.record.body, _COUNTING)
