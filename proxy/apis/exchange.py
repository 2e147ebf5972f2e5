"""One request and its answer, and what may become of them.

A module of this package holds one API that is rewritten. Its class names the fields it looks at as shapes and fills
in some of four methods, which come in pairs: first what is needed, then the rewriting, which finds all of it there
or a failure in its place.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from kveil.protocol.kafka.headers import RequestHeader
from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.splice import Edit, FrozenShape, Walked, Walker, request_walker, response_walker
from kveil.proxy.admin.metrics import Refusal
from kveil.proxy.context import Connection
from kveil.proxy.errors import CloseConnection, ErrorCode
from kveil.proxy.needs import GiftNeed, Need, ReadRecords, RecordsNeed
from kveil.proxy.tracing import Carried

if TYPE_CHECKING:
    from kveil.proxy.tracing.spans import Trace

_MS_MAX = 2**31 - 1


class Forward(NamedTuple):
    """The request goes on to the broker."""

    pieces: Sequence[Buffer] | None = None
    """The new frame, None for the very same bytes."""
    is_answered: bool = True
    """False for acks=0, which has no response."""
    then_close: str | None = None
    """Close the connection afterwards, for this reason."""
    holds_requests: bool = False
    """Whether later requests of the client wait for the answer, since the proxy may have to ask for more then."""


class Answer(NamedTuple):
    """The proxy answers in the broker's place."""

    frame: bytes
    then_close: str | None = None
    """Close the connection afterwards, for this reason; without a further line in the log if it is empty."""


Outcome = Forward | Answer


class Exchange:
    """One request of an API that is rewritten, from its arrival to its answer."""

    REQUEST: ClassVar[FrozenShape] = FrozenShape({})
    RESPONSE: ClassVar[FrozenShape] = FrozenShape({})
    CARRIES_ADDRESSES: ClassVar[bool] = False
    """Whether the answer may hold brokers' addresses, so that fields unknown to the schema are dropped from it."""

    SEALS: ClassVar[bool] = False
    """Whether the request has records."""
    begun: float = 0.0
    """When the frame with records came in, by the shared clock."""
    trace: "Trace | None" = None
    """Set if this request is among those that are traced."""

    def __init__(self, frame: memoryview, header: RequestHeader, connection: Connection) -> None:
        self.frame = frame
        self.header = header
        self.connection = connection
        self.failures: dict[Need, Exception] = {}
        """The needs that could not be met, and why."""
        self.read: dict[RecordsNeed, ReadRecords] = {}
        """The records that were read for this exchange alone."""
        self.throttle_ms = 0
        """How long the broker throttled the proxy's own questions for this request: told to the client (KIP-219)."""

    def request_needs(self) -> Sequence[Need]:
        """Return what `request` must have."""
        return ()

    def request(self) -> Outcome:
        """Return what becomes of the request."""
        return Forward()

    def response_needs(self, frame: memoryview) -> Sequence[Need]:  # noqa: ARG002 - for those that override it
        """Return what `response` must have."""
        return ()

    def response_steps(self) -> Iterator[None]:
        """Do the work on a large answer ahead of `response`, a part each time: between them others have their turn."""
        return iter(())

    def response(self, frame: memoryview) -> Sequence[Buffer] | None:  # noqa: ARG002
        """Return the new answer, None for the very same bytes."""
        return None

    def carried(self) -> Iterator[Carried]:
        """Yield whose records the request or the answer has, once the needs of it are met."""
        return iter(())

    # For the subclasses ------------------------------------------------------------------------------------------

    def walk_request(self) -> Walked:
        """Walk the request by the class's shape."""
        return request_walker(self.header.api_key, self.header.api_version, self.REQUEST)(self.frame)

    @property
    def response_walker(self) -> Walker:
        """The walker over answers of the version that the client asked with."""
        key, version = self.header.api_key, self.header.api_version
        return response_walker(key, version, self.RESPONSE, drop_unknown=self.CARRIES_ADDRESSES)

    def throttle_edits(self, frame: memoryview, span: tuple[int, int] | None) -> list[Edit]:
        """Return the edit that adds the throttling of the proxy's own questions to the answer's."""
        if not self.throttle_ms or span is None:
            return []
        start, end = span
        throttle = int.from_bytes(frame[start:end], "big", signed=True) + self.throttle_ms
        return [Edit(start, end, [min(throttle, _MS_MAX).to_bytes(4, "big", signed=True)])]

    @property
    def opens(self) -> bool:
        """Whether the answer has records."""
        return False

    def note_refusal(self, topic: str | None, partition: int, code: ErrorCode, reason: str) -> None:
        """Count a partition that the proxy refuses."""
        shared = self.connection.shared
        shared.metrics.refused(code, Refusal(shared.unix_time(), topic, partition, code.name, reason))
        if self.trace is not None:
            self.trace.refused(topic, partition, code, reason)

    def topic_name(self, name: str | None, topic_id: bytes | None) -> str | None:
        """Return the topic's name, None for an id that isn't known."""
        if topic_id is None:
            if name is None:
                raise CloseConnection("a topic without a name")
            return name
        return self.connection.shared.topic_names.find(topic_id)


def gift_need(exchange: Exchange, topic_id: bytes) -> GiftNeed | None:
    """Return the need of an id that this client was not told here, None where asking the other workers is no use."""
    connection = exchange.connection
    need = GiftNeed(connection.client, topic_id)
    return need if connection.shared.topic_names.is_copy and need not in exchange.failures else None
