"""One client connection and its connection to a broker: the I/O around a session.

Each side is read only while what it sends can be taken: not while a frame is parked, and not while the other side
has more to send than should wait. So a slow reader slows its peer down, and memory stays bounded (R6).
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from kveil.protocol.kafka.errors import ProtocolError
from kveil.proxy.addresses import Endpoint
from kveil.proxy.admin.audit import audit, caused_by
from kveil.proxy.context import Connection
from kveil.proxy.errors import CloseConnection, LoginFailed
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeysFull, KeyUnavailable
from kveil.proxy.log import log_limited
from kveil.proxy.login import MAX_TOKEN_BYTES
from kveil.proxy.needs import KeyNeed, PasswordNeed
from kveil.proxy.net.key_needs import meet_key_need
from kveil.proxy.net.leg import Leg
from kveil.proxy.net.own_login import OwnLogin
from kveil.proxy.net.questions import Questions
from kveil.proxy.net.record_reads import read_records
from kveil.proxy.net.server_tls import certificate_subject
from kveil.proxy.net.upstream import Upstream
from kveil.proxy.session import Parked, Session

_BUFFERS_FULL = (
    "frames over 1 MiB wait until others have left: raise limits.buffered_bytes, or let consumers fetch less at a time "
    "(fetch.max.bytes)"
)

_BROKER_LOST = "the broker ended the connection before its answer"


class RelayOwner(Protocol):
    """Who keeps the relays."""

    def relay_ended(self, relay: "Relay") -> None:
        """Both sides are closed."""

    @property
    def holds(self) -> bool:
        """Whether nothing may pass now: neither is anything sent, nor is more taken."""
        ...


class Relay:
    """A client, a broker, and the session between them."""

    def __init__(self, connection: Connection, upstream: Upstream, owner: RelayOwner) -> None:
        self._connection = connection
        self._upstream = upstream
        self._owner = owner
        self._frame_bytes = connection.shared.settings.limits.frame_bytes
        self._session = Session(connection)
        self._own_login: OwnLogin | None = None
        credentials = upstream.credentials_of(connection.principal)
        if credentials is not None:
            seconds = connection.shared.settings.limits.connect_timeout_seconds
            self._own_login = OwnLogin(self._session, self._flush, self._go_on, credentials, seconds)
        self._questions = Questions(
            self._session, self._send_question, self._own_login.ready if self._own_login else None
        )
        self._share = connection.shared.budget.share(self._adjust)
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._closing = False
        self.client = self._new_leg()
        self._broker: Leg | None = None
        self._login_timer: asyncio.TimerHandle | None = None
        """Runs until the client has logged in, where the listener asks for that."""

    @property
    def connection(self) -> Connection:
        """Whose it is."""
        return self._connection

    @property
    def in_flight(self) -> int:
        """How many requests wait for their answer."""
        return self._session.in_flight

    def _new_leg(self) -> Leg:
        return Leg(self, self._frame_bytes, self._connection.shared.kept_buffers, self._share)

    # Beginning and end -------------------------------------------------------------------------------------------

    def leg_connected(self, leg: Leg) -> None:
        """The client is there: look for its broker. Nothing that it sends is looked at before that."""
        if leg is self.client:
            peer = leg.transport.get_extra_info("peername") if leg.transport else None
            self._connection.peer = peer[0] if peer else ""
            self._ask_who(leg)
            if not self._closing:
                self._spawn(self._connect())

    def _ask_who(self, leg: Leg) -> None:
        """Begin the login that the listener asks for, or take the certificate for it."""
        if not self._connection.is_authenticated:
            leg.frames.limit_bytes = min(MAX_TOKEN_BYTES, self._frame_bytes)
            seconds = self._connection.shared.settings.limits.login_seconds
            reason = f"no login within {seconds:g} s (limits.login_seconds)"
            self._login_timer = asyncio.get_running_loop().call_later(seconds, self._close, reason)
            return
        subject = certificate_subject(leg.transport)
        if subject is not None:
            self._connection.authenticated(subject)
            audit("login.granted", subject, self._connection.cause, mechanism="certificate")

    def _end_login(self) -> None:
        """Let the client go on, once it has proved who it is."""
        if self._login_timer is not None and self._connection.is_authenticated:
            self._login_timer.cancel()
            self._login_timer = None
            self.client.frames.limit_bytes = self._frame_bytes

    async def _connect(self) -> None:
        """Connect to the broker that the client's port stands for, or as a guest to any."""
        node_id = self._connection.node_id
        known = None if node_id is None else self._connection.shared.brokers.find(node_id)
        self._connection.is_guest = node_id is not None and known is None
        candidates: tuple[Endpoint, ...] = tuple(self._upstream.bootstrap) if known is None else (known,)
        try:
            self._broker, self._connection.upstream = await self._upstream.connect(candidates, self._new_leg)
        except OSError as error:
            log_limited(self._connection.log.warning, "upstream_unreachable", key=candidates, reason=str(error))
            self.abort()
            return
        if self._closing:
            self._broker.abort()
            return
        if self._own_login is None:
            self._go_on()
        else:
            await self._own_login.run()

    def go_on(self) -> None:
        """Send and take what was held, which its owner does no longer."""
        if self._broker is not None:
            self._pump(self._receive_responses)

    def _go_on(self) -> None:
        """Take the requests that have waited for the broker or a login."""
        self._pump(self._receive_requests)

    def leg_lost(self, leg: Leg) -> None:
        """One side is gone: end the other one when it has got what is for it."""
        if leg is self._broker and self._own_login is not None and self._own_login.broker_lost():
            return  # the login says why, and ends the client's side
        self._closing = True
        if self._login_timer is not None:
            self._login_timer.cancel()
        for task in self._tasks:
            task.cancel()
        self._session.end_traces(None if leg is self.client else _BROKER_LOST)
        self._connection.release_lanes()
        other = self._broker if leg is self.client else self.client
        if other is not None:
            other.close()
        self._release()
        if leg is self.client:
            self._owner.relay_ended(self)

    def drain(self) -> None:
        """Take no more requests, and end when the answers to the last ones are out."""
        self._draining = True
        self._adjust()
        self._end_if_drained()

    def abort(self) -> None:
        """End now."""
        self._closing = True
        self.client.abort()
        if self._broker is not None:
            self._broker.abort()

    def _close(self, reason: str) -> None:
        if reason and not self._closing:
            log_limited(self._connection.log.warning, "connection_closed", key=reason, reason=reason)
            self._session.end_traces(reason)
        self._flush()
        self._closing = True
        self.client.close()
        if self._broker is not None:
            self._broker.close()

    def _end_if_drained(self) -> None:
        if self._session.is_idle and not self._closing:
            self._closing = True
            self.client.close()
            if self._broker is not None:
                self._broker.close()

    # Frames ------------------------------------------------------------------------------------------------------

    def leg_received(self, leg: Leg) -> None:
        """Take the frames that are complete."""
        if self._broker is None:
            # Not earlier: uvloop begins to read after `connection_made`, also where reading was paused there.
            leg.read(on=False)
            return
        self._pump(self._receive_requests if leg is self.client else self._receive_responses)

    def leg_writable(self, leg: Leg) -> None:  # noqa: ARG002 - either one changes what is read
        """A side has more to send than should wait, or has no longer."""
        self._adjust()

    def _pump(self, step: Callable[[], None]) -> None:
        """Run one step of the session, send what comes of it, and see to what was parked."""
        if self._closing:
            return
        try:
            step()
        except (CloseConnection, ProtocolError) as error:
            self._close(str(error))
            return
        except Exception as error:
            # A defect of ours: no plaintext may leave because of it, and the client is better off with a new try.
            self._session.end_traces(type(error).__name__)  # the text may hold anything
            self._connection.log.exception("connection_failed")
            self.abort()
            return
        self._flush()
        if self._session.close_reason is not None:
            self._close(self._session.close_reason)
            return
        self._adjust()
        if self._draining:
            self._end_if_drained()

    def _receive_requests(self) -> None:
        session, client = self._session, self.client
        while session.takes_requests and not self._waits_for_login() and not self._owner.holds:
            self._end_login()
            frame = client.next_frame()
            if frame is None:
                return
            parked = session.receive_request(frame)
            if parked is not None:
                self._spawn(self._meet(parked, self._resume_request))

    def _waits_for_login(self) -> bool:
        """Whether requests wait for the proxy's own login. If one is due it begins."""
        own_login = self._own_login
        if own_login is None:
            return False
        if own_login.begins():
            self._spawn(own_login.run())
        return own_login.is_running

    def _receive_responses(self) -> None:
        session, broker = self._session, self._broker
        while session.takes_responses and broker is not None and not self._owner.holds:
            frame = broker.next_frame()
            if frame is None:
                break
            self._go_on_with(session.receive_response(frame))
        self._receive_requests()  # those that an answer held up

    def _resume_request(self) -> None:
        parked = self._session.resume_request()
        if parked is not None:
            self._spawn(self._meet(parked, self._resume_request))
        self._receive_requests()

    def _resume_response(self) -> None:
        self._go_on_with(self._session.resume_response())
        self._receive_responses()

    def _go_on_with(self, parked: Parked | None) -> None:
        """See to an answer that is parked now, or that is large and has begun."""
        if parked is not None:
            self._spawn(self._meet(parked, self._resume_response))
        elif self._session.has_begun:
            asyncio.get_running_loop().call_soon(self._pump, self._step_response)

    def _step_response(self) -> None:
        self._session.step_response()
        self._go_on_with(None)
        self._receive_responses()

    def _flush(self) -> None:
        session = self._session
        if self._owner.holds:
            return  # what was decided just now has no record yet
        if session.to_broker and self._broker is not None:
            pieces, session.to_broker = session.to_broker, []
            self._broker.write(pieces)
        if session.to_client:
            pieces, session.to_client = session.to_client, []
            self.client.write(pieces)

    def _send_question(self) -> None:
        """Send what the proxy asks by itself, and read on for the answer, also where the broker's side was held."""
        self._flush()
        self._adjust()

    def _adjust(self) -> None:
        """Read each side if, and only if, what it sends can be taken."""
        has_large = self._share.is_used
        if has_large:
            self._release()
        broker = self._broker
        if broker is None or self._closing:
            return
        session, client = self._session, self.client
        waits = self._draining or (self._own_login is not None and self._own_login.is_running)
        waits = waits or self._owner.holds
        waits = waits or broker.is_clogged or client.is_clogged or (has_large and client.waits_for_room)
        client.read(on=session.takes_requests and not waits)
        waits = self._owner.holds or client.is_clogged or (has_large and broker.waits_for_room)
        broker.read(on=session.takes_responses and not waits)

    def _release(self) -> None:
        """Give back what large frames held of the budget that have left, and tell of those that wait for it."""
        session, client, broker = self._session, self.client, self._broker
        if (self._closing or session.parked_request is None) and (broker is None or not broker.is_clogged):
            client.taken_have_left()
        is_worked_on = session.parked_response is not None or session.has_begun
        if broker is not None and not client.is_clogged and (self._closing or not is_worked_on):
            broker.taken_have_left()
        if self._share.is_waiting:
            budget = self._connection.shared.settings.limits.buffered_bytes
            log_limited(self._connection.log.warning, "buffers_full", buffered_bytes=budget, why=_BUFFERS_FULL)

    # Needs -------------------------------------------------------------------------------------------------------

    async def _meet(self, parked: Parked, resume: Callable[[], None]) -> None:
        """Meet a parked frame's needs, or note why not, and go on with it."""
        caused_by.set(self._connection.cause_of(parked.request))  # of this task, and of those that it begins
        async with asyncio.TaskGroup() as group:
            group.create_task(self._questions.meet(parked))
            group.create_task(read_records(self._questions, parked))
            for need in parked.needs:
                if isinstance(need, KeyNeed):
                    group.create_task(self._meet_key(need, parked))
                elif isinstance(need, PasswordNeed):
                    group.create_task(asyncio.to_thread(need.check))
        if self._own_login is not None and parked.header is not None:  # a request, which the login must let pass
            await self._own_login.ready()
        self._pump(resume)

    async def _meet_key(self, need: KeyNeed, parked: Parked) -> None:
        try:
            await meet_key_need(self._connection.shared, need)
        except (KeyRefused, KeyDenied, KeysFull, KeyUnavailable) as error:
            parked.failures[need] = error

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, LoginFailed) or (
                isinstance(error, ExceptionGroup) and error.subgroup(LoginFailed) is not None
            ):
                self.abort()  # the login has said why
                return
            if isinstance(error, ExceptionGroup) and error.subgroup(CloseConnection) is not None:
                self._close(str(error.exceptions[0]))
                return
            self._connection.log.error("connection_failed", exc_info=error)
            self.abort()
