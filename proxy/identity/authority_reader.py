"""The control topic as its authority reads it: what stands there of its own, and who asks for what."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from kveil.protocol.identity.checkpoint import Ended
from kveil.protocol.identity.credential import Credential
from kveil.protocol.identity.enrolment import Enrolment
from kveil.protocol.identity.errors import IdentityError as ProtocolError
from kveil.protocol.identity.fold import Applied, Outcome
from kveil.protocol.identity.hiding import Handed
from kveil.protocol.identity.identity import PublicKeys
from kveil.protocol.identity.marks import Head, Kept
from kveil.protocol.identity.progress import Mark
from kveil.protocol.identity.record import IdentityRecord, Record
from kveil.protocol.identity.signing import Signed
from kveil.protocol.identity.view import View
from kveil.proxy.identity.authority_state import AuthorityState, Latest, Member, latest_of, member_of

# Whoever may write to the topic could fill memory with them: the oldest go first.
MOST_ENROLMENTS: Final = 4_096
MOST_IDENTITIES: Final = 16_384
# Of one producer's end, which must fit in a checkpoint whatever it has written: those that went on last.
MOST_CHAINS: Final = 512


class LastWord(NamedTuple):
    """Of one process of a producer. `said` is when, in seconds since 1970, `checkpoint` the newest that it knew of."""

    said: int
    checkpoint: int
    is_over: bool
    """It has ended, and said so."""

    def answers(self, checkpoint: int) -> bool:
        """Whether it is as new as a checkpoint, or nothing comes after it."""
        return self.is_over or self.checkpoint >= checkpoint


class AuthorityReader:
    """A reader of the topic (`net.topic_log`), for the keys that sign there."""

    def __init__(self, keys: PublicKeys, state: AuthorityState) -> None:
        self._keys = keys
        self._own: dict[bytes, Signed] = {}
        self._identities: OrderedDict[bytes, PublicKeys] = OrderedDict()
        self._enrolments: OrderedDict[bytes, Enrolment] = OrderedDict()
        self._serial = 0
        self._hiding: Signed | None = None
        self.view = View(realm=state.realm, authority=keys.id, authority_keys=keys, kept=state.latest.kept)
        self._news = False
        self.refused = 0
        """Records that count for nothing."""
        self.when_changed: Callable[[], None] = lambda: None
        """Called when there is something to decide."""

    async def get_ready(self) -> None:
        """All that it takes is there."""

    def apply(self, offset: int, key: bytes | None, value: bytes | None) -> None:  # noqa: ARG002 - these are Kafka's
        """Take one record."""
        self._news = True
        for applied in self.view.apply(value).all():
            self._take(applied)
        while self.view.to_keep is not None:
            self.view.keep(self.view.to_keep)  # the authority's own state is what counts here

    def heard(self) -> None:
        """All was read that stood on the topic a moment ago."""
        self.view.reached_end()
        if self._news:
            self._news = False
            self.when_changed()

    def _take(self, applied: Applied) -> None:
        if applied.outcome is Outcome.REFUSED:
            self.refused += 1
        elif isinstance(applied.record, Enrolment):
            self._enrolments[applied.record.sealed] = applied.record
            if len(self._enrolments) > MOST_ENROLMENTS:
                self._enrolments.popitem(last=False)
        elif isinstance(applied.record, Record):
            self._take_record(applied.record)

    def _take_record(self, record: Record) -> None:
        signed, body = record
        if isinstance(body, IdentityRecord):
            try:
                signed.verify(body.keys)
            except ProtocolError:
                self.refused += 1
                return
            self._identities[body.keys.id] = body.keys
            if len(self._identities) > MOST_IDENTITIES:
                self._identities.popitem(last=False)
        if signed.signer == self._keys.id:
            self._own[signed.hash] = signed
            if isinstance(body, Credential):
                self._serial = max(self._serial, body.serial)
            if isinstance(body, Handed) and body.member == self._keys.id and self._hiding is None:
                self._hiding = signed

    # What the authority asks -------------------------------------------------------------------------------------

    def take_enrolments(self) -> list[Enrolment]:
        """Those that have come since the last call."""
        found = list(self._enrolments.values())
        self._enrolments.clear()
        return found

    def identity(self, fingerprint: bytes) -> PublicKeys | None:
        """The keys that somebody has published."""
        return self._identities.get(fingerprint)

    def has(self, record: Signed) -> bool:
        """Whether the topic has this record."""
        return record.hash in self._own

    def hiding(self) -> Signed | None:
        """The key-hiding key, as the authority handed it to itself."""
        return self._hiding

    def has_answer(self, ticket_id: bytes, node: bytes) -> bool:
        """Whether a node was told already why it got no credential."""
        return self.view.answer(ticket_id, node) is not None

    def end_of(self, producer: bytes) -> Ended:
        """How far a producer's announcements and batches went, as far as the topic says."""
        chains = dict(sorted(self.view.heads(producer).items(), key=lambda one: self._created(one[1]))[-MOST_CHAINS:])
        marks: dict[tuple[bytes, int, int], int] = {}
        for beacon in (self.view.beacon(producer, chain) for chain in chains):
            for kid, partition, lane, _, sealed in () if beacon is None else beacon.heads:
                marks[kid, partition, lane] = max(sealed, marks.get((kid, partition, lane), 0))
        return Ended(
            id=producer,
            chains=chains,
            marks=tuple(sorted(Mark(*place, batches) for place, batches in marks.items() if batches)),
        )

    def last_words(self, producer: bytes) -> list[LastWord]:
        """What each of a producer's processes has said of how far it is."""
        return [self._last_word(producer, chain, head) for chain, head in self.view.heads(producer).items()]

    def _last_word(self, producer: bytes, chain: bytes, head: Head) -> LastWord:
        beacon, judged = self.view.beacon(producer, chain), self.view.announcement(head.hash)
        epoch = None if judged is None else judged.announced.announcement.epoch
        if beacon is None or (epoch is not None and beacon.head.sequence < epoch.first):
            return LastWord(said=self._created(head), checkpoint=0, is_over=False)
        is_over = beacon.last and beacon.head == head
        return LastWord(said=beacon.created, checkpoint=beacon.checkpoint.number, is_over=is_over)

    def _created(self, head: Head) -> int:
        judged = self.view.announcement(head.hash)
        return 0 if judged is None else judged.announced.announcement.epoch.created

    def newer_than(self, kept: Kept) -> tuple[Latest, list[Member], int] | None:
        """The newest checkpoint with its members, and the highest serial, if the topic is ahead of that one."""
        newest, found = self.view.checkpoint, self.view.kept
        if newest is None or found is None or newest.number <= kept.number:
            return None
        members = [member_of(self._own[listed.hash]) for listed in self.view.live().values()]
        return latest_of(self._own[found.hash]), members, self._serial

    def fork(self, kept: Kept) -> str | None:
        """Why there are two authorities with these keys, None if nothing says so."""
        alarm = self.view.opening_stop()
        if alarm is None or alarm.about or alarm.kind != "fork":
            return None
        return (
            f"{alarm.detail}, both signed by this authority, whose own is {kept.number}: two copies of its directory "
            "were in use, or its keys were stolen. Nodes stop there. Find out which. If the keys were stolen, begin a "
            "new realm; else end the other copy, and `kveil authority checkpoint --all` goes on from this one"
        )
