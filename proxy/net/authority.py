"""An authority at work: decisions go to disk, then to the control topic."""

import asyncio
import os
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from kveil.protocol.identity.alarms import AlarmKind
from kveil.protocol.identity.credential import Grant
from kveil.protocol.identity.enrolment import Enrolment
from kveil.protocol.identity.errors import IdentityError as ProtocolError
from kveil.protocol.identity.identity import Identity
from kveil.protocol.identity.record import encode_record
from kveil.protocol.identity.signing import Signed
from kveil.proxy.admin.audit import audit
from kveil.proxy.admin.metrics import sample_name
from kveil.proxy.identity.authority import Approve, Authority, produces
from kveil.proxy.identity.authority_reader import AuthorityReader
from kveil.proxy.identity.authority_state import AuthorityState
from kveil.proxy.identity.authority_store import AuthorityStore
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.owed import everything, owed
from kveil.proxy.keys.errors import KeyUnavailable
from kveil.proxy.log import get_logger, log_limited
from kveil.proxy.net.topic_log import TopicLog

# How often the clock is looked at: for credentials, and for checkpoints.
LOOK_SECONDS: Final = 15.0
RETRY_SECONDS: Final = 1.0
# How long a producer's processes may take to say how far they are.
ANSWER_SECONDS: Final = 5.0
# One that has said nothing for so long isn't there any more: they do every 60 s, and clocks may be apart.
ALIVE_SECONDS: Final = 240.0
_LOCK_SECONDS: Final = 0.05
# Of what `_alarms` has: the authority answers those itself, or they are what it is about to mend.
_OWN_ALARMS: Final = frozenset({AlarmKind.ROLLBACK, AlarmKind.FREEZE, AlarmKind.TICKET_REUSED})
_log = get_logger(__name__)

Ask = Callable[[str, bytes, tuple[Grant, ...]], Awaitable[bool]]
"""Asks a person."""


def decide(
    store: AuthorityStore, keys: Identity, work: Callable[[Authority], None], *, force: bool = False
) -> tuple[AuthorityState, list[Signed]]:
    """Have what `work` decides on disk, and in the audit. Returns the state, and answers that it hasn't.

    :raises IdentityError: it can't be; nothing is changed.
    """
    made: list[Authority] = []

    def decided(state: AuthorityState) -> AuthorityState:
        authority = Authority(keys, state, int(time.time()))
        made.append(authority)
        work(authority)
        authority.renew()
        authority.close(force=force)
        return authority.state

    state = store.change(keys, decided)
    (authority,) = made
    for event in authority.events:
        audit(event.kind, event.subject, None, **event.data)
    return state, authority.answers


class AuthorityAtWork:
    """One process of an authority, which has the topic before it."""

    def __init__(self, store: AuthorityStore, keys: Identity, reader: AuthorityReader, log: TopicLog) -> None:
        self._store = store
        self._keys = keys
        self._reader = reader
        self._log = log
        self._told: set[tuple[str, bytes]] = set()
        self._open: deque[Enrolment] = deque()
        self._arrived = asyncio.Event()
        self._state: AuthorityState | None = None
        self.trouble: str | None = "the control topic wasn't read yet"
        """Why enrolments aren't answered and checkpoints aren't published; None if they are."""

    def samples(self) -> dict[str, float]:
        """What is known of the realm, for metrics."""
        alarms = Counter(kind for kind, *_ in self._reader.view.alarms(int(time.time())) if kind not in _OWN_ALARMS)
        found: dict[str, float] = {sample_name("kveil_identity_alarms", kind=kind): alarms[kind] for kind in AlarmKind}
        if (state := self._state) is not None:
            checkpoint = state.latest.checkpoint
            found["kveil_members"] = len(state.members)
            found["kveil_checkpoint_number"] = checkpoint.number
            found["kveil_checkpoint_expiry_timestamp_seconds"] = checkpoint.expires
        return found

    async def decide(
        self,
        work: Callable[[Authority], None],
        *,
        force: bool = False,
        all_again: bool = False,
        publishes: bool = True,
    ) -> AuthorityState:
        """Decide by what the topic says now, and publish.

        :raises IdentityError: it can't be; nothing is changed.
        :raises KeyUnavailable: it is decided, and could not be published: it will be, by whatever comes next.
        """
        await self._log.catch_up()
        async with self._publishing():
            forked = self._restore(in_spite_of_fork=all_again)

            def decided(authority: Authority) -> None:
                authority.have_hiding_key(self._reader)
                work(authority)
                if forked:
                    authority.skip()

            state, answers = decide(self._store, self._keys, decided, force=force)
            self._state = state
            records = everything(self._keys, state) if all_again else owed(self._keys, state, self._reader)
            if publishes:
                await self._publish([*answers, *records])
        return state

    async def ask(self, name: str) -> int | None:
        """Have the processes of a member say how far they are, and wait for them, but not for long.

        Returns the number of the checkpoint that asked them, None for a member that produces nothing. Raises as
        `decide`.
        """
        member = self._store.load(self._keys).named(name)
        if member is None or not produces(member):
            return None
        number = (await self.decide(lambda _: None, force=True)).latest.kept.number
        told = asyncio.Event()
        self._reader.when_changed = told.set
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                while self._is_awaited(member.credential.subject, number):
                    await told.wait()
                    told.clear()
        return number

    def _is_awaited(self, producer: bytes, checkpoint: int) -> bool:
        since = time.time() - ALIVE_SECONDS
        return any(one.said >= since and not one.answers(checkpoint) for one in self._reader.last_words(producer))

    def _restore(self, *, in_spite_of_fork: bool) -> bool:
        """Take over what the topic has, if the directory is an older one, from a backup. Whether there is a fork."""
        kept = self._store.load(self._keys).latest.kept
        if (why := self._reader.fork(kept)) is not None:
            if in_spite_of_fork:
                return True
            raise IdentityError(why)
        found = self._reader.newer_than(kept)
        if found is not None:
            decide(self._store, self._keys, lambda authority: authority.restore(*found))
            _log.warning("authority_restored", own=kept.number, found=found[0].kept.number)
        return False

    async def _publish(self, records: Sequence[Signed]) -> None:
        if records:
            await self._log.append([encode_record(record) for record in records])

    @asynccontextmanager
    async def _publishing(self) -> AsyncIterator[None]:
        while (descriptor := self._store.try_publishing()) is None:  # noqa: ASYNC110 - another process has it
            await asyncio.sleep(_LOCK_SECONDS)
        try:
            yield
        finally:
            os.close(descriptor)

    # Running -----------------------------------------------------------------------------------------------------

    async def run(self, stopping: asyncio.Event, ask: Ask | None = None) -> None:
        """Answer enrolments, renew credentials and sign checkpoints until told to stop.

        :raises IdentityError: the authority can't go on.
        """
        changed = asyncio.Event()
        self._reader.when_changed = changed.set
        changed.set()
        # A person takes their time, and nothing else is to wait for them.
        asking = asyncio.get_running_loop().create_task(_forever() if ask is None else self._ask_for_each(ask))
        try:
            while not stopping.is_set():
                changed.clear()
                try:
                    await self._step(answers=ask is None)
                    self.trouble = None
                except KeyUnavailable as error:
                    self.trouble = str(error)
                    log_limited(_log.warning, "control_topic_unusable", reason=str(error))
                    await _first_of(stopping.wait(), asyncio.sleep(RETRY_SECONDS))
                    changed.set()
                await _first_of(stopping.wait(), changed.wait(), asyncio.sleep(LOOK_SECONDS))
                if asking.done():
                    asking.result()
        finally:
            asking.cancel()
            await asyncio.wait([asking])

    async def _step(self, *, answers: bool) -> None:
        self._open.extend(self._reader.take_enrolments())
        self._arrived.set()
        while answers and self._open:
            await self._answer(self._open[0], None)
            self._open.popleft()
        before = self._store.load(self._keys).latest.kept.number
        state = await self.decide(lambda _: None)
        if state.latest.kept.number != before:
            _log.info("checkpoint", number=state.latest.kept.number, members=len(state.members))
        self._tell_alarms()

    async def _ask_for_each(self, ask: Ask) -> None:
        while True:
            while not self._open:
                self._arrived.clear()
                await self._arrived.wait()
            try:
                await self._answer(self._open[0], ask)
                self._open.popleft()
            except KeyUnavailable as error:
                log_limited(_log.warning, "control_topic_unusable", reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _answer(self, enrolment: Enrolment, ask: Ask | None) -> None:
        try:
            said = await self._approval(enrolment, ask)
            await self.decide(lambda authority: authority.redeem(enrolment, self._reader, said))
        except ProtocolError as error:
            log_limited(
                _log.warning,
                "enrolment_refused",
                key=enrolment.ticket_id,
                ticket=enrolment.ticket_id.hex(),
                reason=f"not made with this ticket, or altered: {error.reason}",
            )

    async def _approval(self, enrolment: Enrolment, ask: Ask | None) -> Approve | None:
        """What a person says to an enrolment: nothing is locked while they think."""
        if ask is None:
            return None
        asked: list[tuple[str, bytes, tuple[Grant, ...]]] = []

        def remember(name: str, subject: bytes, grants: tuple[Grant, ...]) -> bool:
            asked.append((name, subject, grants))
            return True

        trial = Authority(self._keys, self._store.load(self._keys), int(time.time()))
        trial.redeem(enrolment, self._reader, remember)
        said = await ask(*asked[0]) if asked else True
        return lambda *_: said

    def _tell_alarms(self) -> None:
        for kind, about, detail in self._reader.view.alarms(int(time.time())):
            if kind not in _OWN_ALARMS and (kind, about) not in self._told:
                self._told.add((kind, about))
                _log.error("identity_alarm", kind=kind, about=about.hex(), reason=detail)
                audit("identity.alarm", about.hex() or self._reader.view.realm, kind=kind, reason=detail)


async def _forever() -> None:
    await asyncio.Event().wait()


async def _first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when one of them is over; the others are dropped."""
    tasks = [asyncio.get_running_loop().create_task(one) for one in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
