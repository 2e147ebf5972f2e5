"""One client connection without I/O: frames go in, bytes for both sides come out.

Brokers answer a connection's requests in their order, and clients rely on it (R6). So every request that will be
answered is entered in a queue, and answers are matched with it first in, first out, their correlation ids checked.

    client -> receive_request  -> to_broker, or to_client if the proxy answers itself
    broker -> receive_response -> to_client, or the proxy's own question

Where a frame must wait for something (a topic's settings, a key), it is parked with its needs: `parked_request` and
`parked_response`. Until `resume_request` or `resume_response` no later frame of that side is to be given in, but for
the answers to the proxy's own questions: `takes_requests` and `takes_responses` say so. A large answer is opened in
steps, so that other connections aren't held up: while `has_begun` says so, `step_response` is to be called.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kveil.protocol.kafka.api_table import API_TABLE, Action, ApiKey
from kveil.protocol.kafka.framing import write_frame
from kveil.protocol.kafka.headers import RequestHeader, read_correlation_id, read_request_header
from kveil.protocol.kafka.messages import encode_request
from kveil.protocol.kafka.primitives import Buffer
from kveil.proxy.apis import exchange_type
from kveil.proxy.apis.exchange import Answer, Exchange
from kveil.proxy.apis.opening import STEP_BYTES
from kveil.proxy.context import Connection
from kveil.proxy.errors import CloseConnection, QuestionFailed
from kveil.proxy.needs import KeyNeed, Need, ReadRecords, RecordsNeed
from kveil.proxy.tracing import TRACED, Phase

if TYPE_CHECKING:
    from kveil.proxy.tracing.spans import Trace

_GUEST_APIS = frozenset(
    {
        ApiKey.API_VERSIONS,
        ApiKey.SASL_HANDSHAKE,
        ApiKey.SASL_AUTHENTICATE,
        ApiKey.METADATA,
        ApiKey.FIND_COORDINATOR,
    }
)
"""What a connection may ask whose own broker isn't known yet, so that another one answers."""

_LOGIN_APIS = frozenset({ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE, ApiKey.API_VERSIONS})

MAX_IN_FLIGHT = 1000
"""Requests without an answer above which no more are taken. Brokers work on one request of a connection at a time, and
Java sends five ahead; librdkafka may send a million, and each that waits here takes memory."""

_NOTHING = memoryview(b"")
_DONE = object()

OnAnswer = Callable[[memoryview], None]


@dataclass(slots=True, kw_only=True)
class _Entry:
    """A request that will be answered."""

    correlation_id: int | None
    """None for a login's token, which has none."""
    exchange: Exchange | None = None
    """None if the answer passes as it is."""
    question: OnAnswer | None = None
    """Who waits for the answer, if the request is the proxy's own."""
    answer: bytes | None = None
    """The answer, if the proxy gives it itself."""


@dataclass(slots=True, kw_only=True)
class Parked:
    """A frame that waits for its needs."""

    needs: Sequence[Need]
    frame: memoryview
    entry: _Entry | None = None
    header: RequestHeader | None = None
    failures: dict[Need, Exception] = field(default_factory=dict)
    read: dict[RecordsNeed, ReadRecords] = field(default_factory=dict)
    throttle_ms: int = 0
    begun: float = 0.0
    """When it came in."""
    trace: "Trace | None" = None

    @property
    def request(self) -> RequestHeader | None:
        """The request that it is, or that it answers."""
        return self.entry.exchange.header if self.entry and self.entry.exchange else self.header


class Session:
    """The order of one connection's requests and answers."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._metrics = connection.shared.metrics
        self._counts = connection.shared.metrics.requests
        self._now = connection.shared.now
        self._tracer = connection.tracer
        self._traces: set[Trace] = set()
        """Those that haven't ended."""
        self.to_broker: list[Buffer] = []
        self.to_client: list[Buffer] = []
        self.parked_request: Parked | None = None
        self.parked_response: Parked | None = None
        self.close_reason: str | None = None
        """Set once the connection is to be closed after what is in `to_client` and `to_broker` was sent.
        Empty if the log has told why."""
        self._in_flight: deque[_Entry] = deque()
        self._holding: _Entry | None = None
        """The request whose answer the client's later requests wait for."""
        self._questions = 0
        self._begun: tuple[_Entry, memoryview, Iterator[None]] | None = None
        """A large answer and the steps that are left of opening it. Its frame must stay as it is until then."""

    @property
    def in_flight(self) -> int:
        """How many requests wait for their answer."""
        return len(self._in_flight)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is waited for."""
        return not (self._in_flight or self.parked_request or self.parked_response or self._begun)

    @property
    def takes_requests(self) -> bool:
        """Whether a frame of the client's may be given in now."""
        return (
            self.parked_request is None
            and self._holding is None
            and self.close_reason is None
            and len(self._in_flight) < MAX_IN_FLIGHT
        )

    @property
    def takes_responses(self) -> bool:
        """Whether a frame of the broker's may be given in now: while one is parked, only the answer to a question."""
        if self._begun is not None:
            return False
        return self.parked_response is None or bool(self._in_flight and self._in_flight[0].question)

    @property
    def has_begun(self) -> bool:
        """Whether there are steps left of a large answer."""
        return self._begun is not None

    # Requests ----------------------------------------------------------------------------------------------------

    def receive_request(self, frame: memoryview) -> Parked | None:
        """Take a frame of the client's, and return it if it was parked. Only if `takes_requests`.

        :raises CloseConnection: it can't be served.
        :raises FrameError: it isn't a request.
        """
        login = self.connection.login
        if login.expects_raw_token:
            login.raw_token_sent(len(frame))
            self._forward(frame, _Entry(correlation_id=None))
            return None
        header = read_request_header(frame)
        self._check_allowed(header)
        self._counts[header.api_key] += 1
        if header.api_key not in _LOGIN_APIS:
            login.ordinary_request_sent()
        if header.client_id is not None and header.client_id != self.connection.client_id:
            self.connection.called(header.client_id)
        rewrite = exchange_type(header.api_key, self.connection)
        if rewrite is not None:
            self.connection.request = header
            exchange = rewrite(frame, header, self.connection)
            if exchange.SEALS:
                exchange.begun = self._now()
            if self._tracer is not None and header.api_key in TRACED:
                exchange.trace = self._tracer.begin(header.api_key, header.client_id, self.connection.upstream)
                if exchange.trace is not None:
                    self._traces.add(exchange.trace)
            return self._start(exchange)
        self._forward(frame, _Entry(correlation_id=header.correlation_id))
        return None

    def _check_allowed(self, header: RequestHeader) -> None:
        """Refuse what has no row in the API table, or a row that says so."""
        row = API_TABLE.get(header.api_key)
        if row is None:
            raise CloseConnection(f"a request of the unknown API {header.api_key}")
        if row.action is Action.REFUSE:
            raise CloseConnection(f"a request of API {row.key}, {row.reason}")
        if header.api_key != ApiKey.API_VERSIONS and not row.min_version <= header.api_version <= row.max_version:
            raise CloseConnection(
                f"{row.name} version {header.api_version} is not spoken: {row.min_version} to {row.max_version} are"
            )
        if not self.connection.is_authenticated and header.api_key not in _LOGIN_APIS:
            raise CloseConnection(f"a {row.name} request before the login")
        if self.connection.is_guest and header.api_key not in _GUEST_APIS:
            raise CloseConnection(f"a {row.name} request for node {self.connection.node_id}, which is not known yet")

    def _start(self, exchange: Exchange) -> Parked | None:
        needs = exchange.request_needs()
        trace = exchange.trace
        if needs:
            if trace is not None:
                trace.enter(_waiting(needs))
            copy = memoryview(bytearray(exchange.frame))
            self.parked_request = Parked(
                needs=needs,
                frame=copy,
                header=exchange.header,
                failures=exchange.failures,
                throttle_ms=exchange.throttle_ms,
                begun=exchange.begun,
                trace=trace,
            )
            return self.parked_request
        self._work_on(exchange)
        return None

    def _work_on(self, exchange: Exchange) -> None:
        """Do with the request what is to be done, now that it has what it needs."""
        trace = exchange.trace
        if trace is not None and exchange.SEALS:
            trace.carries(exchange.carried())
            trace.enter(Phase.SEAL)
        outcome = exchange.request()
        if exchange.SEALS:
            self._metrics.seal_seconds.observe(self._now() - exchange.begun)
        if isinstance(outcome, Answer):
            self._end_trace(trace)
            self._in_flight.append(_Entry(correlation_id=None, answer=outcome.frame))
            self._answer_own()
            self.close_reason = outcome.then_close
            return
        entry = _Entry(correlation_id=exchange.header.correlation_id, exchange=exchange)
        answered = entry if outcome.is_answered else None
        if outcome.holds_requests:
            self._holding = entry
        if outcome.pieces is None:
            self._forward(exchange.frame, answered)
        else:
            self._send(outcome.pieces, answered)
        if trace is not None:
            trace.enter(Phase.UPSTREAM)
            if answered is None:
                self._end_trace(trace)
        exchange.frame = _NOTHING  # the buffer that it lies in is used again
        if outcome.then_close:
            self.close_reason = outcome.then_close

    def _forward(self, frame: memoryview, entry: _Entry | None) -> None:
        self._send([bytes(frame)], entry)

    def _send(self, pieces: Sequence[Buffer], entry: _Entry | None) -> None:
        self.to_broker += write_frame(pieces)
        if entry is not None:
            self._in_flight.append(entry)

    def resume_request(self) -> Parked | None:
        """Go on with the parked request: its needs were met, or noted as failures. It may be parked again."""
        parked = self.parked_request
        if parked is None or parked.header is None:
            return None
        self.parked_request = None
        self.connection.request = parked.header
        rewrite = exchange_type(parked.header.api_key, self.connection)
        if rewrite is None:
            return None
        exchange = rewrite(parked.frame, parked.header, self.connection)
        exchange.failures = parked.failures
        exchange.throttle_ms = parked.throttle_ms
        exchange.begun = parked.begun
        exchange.trace = parked.trace
        return self._start(exchange)

    def ask(self, api_key: int, version: int, values: Mapping[str, Any], on_answer: OnAnswer) -> None:
        """Put a question of the proxy's own, with the client's id and so with its rights and quota.

        `on_answer` gets the answer's frame, which is valid during the call.

        :raises QuestionFailed: the login doesn't allow one now.
        """
        if not self.connection.login.may_ask(self.connection.shared.now()):
            raise QuestionFailed("the client's login is under way or has expired")
        self._questions = (self._questions + 1) & 0x7FFFFFFF
        frame = encode_request(api_key, version, self._questions, self.connection.client_id, values)
        self._send([frame], _Entry(correlation_id=self._questions, question=on_answer))

    # Answers -----------------------------------------------------------------------------------------------------

    def receive_response(self, frame: memoryview) -> Parked | None:
        """Take a frame of the broker's, and return it if it was parked. Only if `takes_responses`.

        :raises CloseConnection: it answers nothing, or can't be passed on.
        :raises FrameError: it isn't what was asked for.
        """
        if not self._in_flight:
            raise CloseConnection("the broker sent an answer to nothing")
        entry = self._in_flight.popleft()
        if entry.correlation_id is not None and read_correlation_id(frame) != entry.correlation_id:
            raise CloseConnection("the broker answered out of order")
        if entry.question is not None:
            entry.question(frame)
            self._answer_own()
            return None
        if entry.exchange is not None:
            entry.exchange.begun = self._now()
        self._respond(entry, frame)
        self._answer_own()
        return self.parked_response

    def _respond(self, entry: _Entry, frame: memoryview) -> None:
        if entry.exchange is None:
            if entry.correlation_id is None:
                self.connection.login.raw_token_answered(len(frame))
            self.to_client += write_frame([bytes(frame)])
        else:
            self.connection.request = entry.exchange.header
            needs = entry.exchange.response_needs(frame)
            trace = entry.exchange.trace
            if trace is not None and needs:
                trace.enter(_waiting(needs))
            elif trace is not None and entry.exchange.opens:
                trace.carries(entry.exchange.carried())
                trace.enter(Phase.OPEN)
            if needs:
                copy = memoryview(bytes(frame))
                exchange = entry.exchange
                self.parked_response = Parked(
                    needs=needs, frame=copy, entry=entry, failures=exchange.failures, read=exchange.read
                )
                return
            if len(frame) > STEP_BYTES:
                self._begun = entry, frame, entry.exchange.response_steps()
                return
            self._finish(entry, entry.exchange, frame)

    def _finish(self, entry: _Entry, exchange: Exchange, frame: memoryview) -> None:
        pieces = exchange.response(frame)
        if exchange.opens:
            self._metrics.open_seconds.observe(self._now() - exchange.begun)
        self._end_trace(exchange.trace)
        self.to_client += write_frame([bytes(frame)] if pieces is None else pieces)
        if entry is self._holding:
            self._holding = None
        if self.connection.node_moved:
            raise CloseConnection(f"node {self.connection.node_id} is another broker than the one that answered")

    def step_response(self) -> None:
        """Do the next part of the work on the large answer that has begun.

        :raises CloseConnection: it can't be passed on.
        """
        if self._begun is None:
            return
        entry, frame, steps = self._begun
        self.connection.request = entry.exchange.header if entry.exchange else None
        if entry.exchange is None or next(steps, _DONE) is not _DONE:
            return
        self._begun = None
        self._finish(entry, entry.exchange, frame)
        self._answer_own()

    def _answer_own(self) -> None:
        """Give the proxy's own answers whose turn has come."""
        while self._in_flight and self.parked_response is None and self._begun is None:
            answer = self._in_flight[0].answer
            if answer is None:
                return
            self._in_flight.popleft()
            self.to_client += write_frame([answer])

    def resume_response(self) -> Parked | None:
        """Go on with the parked answer: its needs were met, or noted as failures. It may be parked again."""
        parked = self.parked_response
        if parked is None or parked.entry is None:
            return None
        self.parked_response = None
        if parked.entry.exchange is not None:
            parked.entry.exchange.throttle_ms += parked.throttle_ms
        self._respond(parked.entry, parked.frame)
        self._answer_own()
        return self.parked_response

    # Traces ------------------------------------------------------------------------------------------------------

    def _end_trace(self, trace: "Trace | None") -> None:
        if trace is not None:
            trace.end()
            self._traces.discard(trace)

    def end_traces(self, problem: str | None) -> None:
        """End the traces of all that gets no answer any more, for this reason. None: nobody waits for one."""
        while self._traces:
            self._traces.pop().end(problem)


def _waiting(needs: Sequence[Need]) -> Phase:
    return Phase.KEYS if any(isinstance(need, KeyNeed) for need in needs) else Phase.SETTINGS
