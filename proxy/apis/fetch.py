"""Fetch: record sets are opened.

A partition that can't be opened gets an error and no records; the others are delivered. Partitions are neither added
nor dropped, since an incremental session lists the changed ones only (KIP-227).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from kveil.protocol.kafka.messages import encode_response
from kveil.protocol.kafka.primitives import Buffer, write_bytes_length
from kveil.protocol.kafka.splice import Edit, FrozenShape, Want, request_walker, splice
from kveil.proxy.apis.access import check_access
from kveil.proxy.apis.endpoints import ENDPOINT, endpoint_edits
from kveil.proxy.apis.exchange import Answer, Exchange, Forward, Outcome, gift_need
from kveil.proxy.apis.opening import STEP_BYTES, FetchedRecords, Room
from kveil.proxy.apis.positions import Reading, Watch, find_reading, settings_needs, watch_of
from kveil.proxy.asking import Place
from kveil.proxy.config import Direction
from kveil.proxy.context import Connection
from kveil.proxy.errors import CloseConnection, ErrorCode, Refused
from kveil.proxy.needs import Need, TopicNameNeed
from kveil.proxy.policy import Rule, Use
from kveil.proxy.tracing import Carried

_CLIENT = -1
"""The replica id of a client."""

_PARTITIONS = FrozenShape(
    {"topics": {"topic": Want.VALUE, "topic_id": Want.VALUE, "partitions": {"partition": Want.VALUE}}}
)

NO_RECORDS_HERE = "this listener is for producers: it hands out no records"


class _Found(NamedTuple):
    """A partition of the answer that has records."""

    place: tuple[str | None, int]
    """Topic and partition."""
    error_span: tuple[int, int]
    records_span: tuple[int, int, int]
    records: FetchedRecords | Refused
    """What is to be opened, or why it isn't."""
    named: str | bytes = ""
    """The topic as the answer has it."""


class Fetch(Exchange):
    """Records on their way to a consumer."""

    REQUEST = FrozenShape(
        {
            "replica_id": Want.VALUE,
            "replica_state": {"replica_id": Want.VALUE},
            "topics": {"topic": Want.VALUE, "topic_id": Want.VALUE},
        }
    )
    RESPONSE = FrozenShape(
        {
            "throttle_time": Want.SPAN,
            "responses": {
                "topic": Want.VALUE,
                "topic_id": Want.VALUE,
                "partitions": {"partition_index": Want.VALUE, "error_code": Want.SPAN, "records": Want.DATA},
            },
            "node_endpoints": ENDPOINT,
        }
    )
    CARRIES_ADDRESSES = True

    _watch: Watch | None = None

    @property
    def opens(self) -> bool:
        """Whether the answer has records."""
        return bool(self._found)

    def request_needs(self) -> Sequence[Need]:
        """Return the names of topics that the request has ids of, where they aren't known; then settings of topics."""
        (replica_id, state, topics), _ = self.walk_request()
        if state is not None:
            (replica_id,) = state
        if replica_id not in (None, _CLIENT):
            raise CloseConnection(f"a Fetch with replica id {replica_id}: brokers don't come through here")
        if self.connection.direction is Direction.PRODUCE:
            return ()
        names = name_needs(self, (topic_id for _, topic_id in topics or ()))
        named = (topic_id or name for name, topic_id in topics or ())
        return names or settings_needs(self.connection, named, self.failures)

    def request(self) -> Outcome:
        """Forward the request, or refuse it where no records are handed out."""
        if self.connection.direction is not Direction.PRODUCE:
            self._watch = watch_of(self.header, self.frame, self.connection)
            return Forward()
        key, version = self.header.api_key, self.header.api_version
        (topics,), _ = request_walker(key, version, _PARTITIONS)(self.frame)
        refused = {"error_code": ErrorCode.TOPIC_AUTHORIZATION_FAILED, "high_watermark": -1, "records": b""}
        responses = [
            {
                "topic": name,
                "topic_id": topic_id,
                "partitions": [{"partition_index": index, **refused} for (index,) in partitions],
            }
            for name, topic_id, partitions in topics or ()
        ]
        values = {"responses": responses}
        return Answer(frame=encode_response(key, version, self.header.correlation_id, values))

    def response_needs(self, frame: memoryview) -> Sequence[Need]:
        """Return what isn't known of the answer's topics, then the keys of its envelopes."""
        self._walked = self.response_walker(frame)
        if self.connection.shared.topic_names.is_copy:
            told = told_needs(self, [topic_id for _, topic_id, _ in self._walked.values[1] or ()])
            if told:
                return told
        self._aborted = None if self._watch is None else self._watch.aborted(frame)
        self._found = list(self._find(frame, self._walked.values[1]))
        self._room = Room()
        needs: dict[Need, None] = {}
        for found in self._found:
            if isinstance(found.records, FetchedRecords):
                needs.update(dict.fromkeys(found.records.needs(self.failures)))
        return list(needs)

    def _find(self, frame: memoryview, topics: Any) -> Iterator[_Found]:
        """Yield the partitions that have records and don't pass as they are."""
        for name, topic_id, partitions in topics or ():
            opening = find_opening(self, name, topic_id)
            if opening is None:
                continue
            is_forbidden = isinstance(opening, Refused) and opening.code == ErrorCode.TOPIC_AUTHORIZATION_FAILED
            for index, error_span, (start, records_at, end) in partitions or ():
                if is_forbidden or records_at < end:
                    named = topic_id or name
                    reading = self._reading(opening, named, index)
                    records = fetched_records(opening, index, frame[records_at:end], reading)
                    place = self.topic_name(name, topic_id), index
                    yield _Found(place, error_span, (start, records_at, end), records, named)

    def _reading(self, opening: "Opening | Refused", named: str | bytes, index: int) -> Reading | None:
        if self._watch is None or isinstance(opening, Refused):
            return None
        start = self._watch.start(named, index)
        aborted = None if self._aborted is None else self._aborted.get((named, index), [])
        topic, rule, connection = opening
        return find_reading(topic, named, index, rule, connection, start=start, aborted=aborted)

    def carried(self) -> Iterator[Carried]:
        """Yield whose records the answer has, without those that pass as they are."""
        return carried_records((found.place, found.records) for found in self._found)

    def response_steps(self) -> Iterator[None]:
        """Open the records ahead."""
        return open_in_steps((found.records for found in self._found), self._room)

    def response(self, frame: memoryview) -> Sequence[Buffer] | None:
        """Return the answer with opened records and local addresses."""
        (throttle, _, endpoints), sections = self._walked
        compact = self.response_walker.flexible
        edits = endpoint_edits(frame, endpoints, self.connection, compact=compact)
        edits += self.throttle_edits(frame, throttle)
        for found in self._found:
            edits += self._open(found, compact=compact)
        if self._watch is not None:
            self._watch.answered(frame, self._read())
        if not edits and not any(section.dropped for section in sections):
            return None
        return splice(frame, edits, sections)

    def _read(self) -> dict[Place, Reading]:
        """Return who has judged the partitions that were read."""
        read = {(found.named, found.place[1]): found.records for found in self._found}
        return {
            place: records.reading
            for place, records in read.items()
            if isinstance(records, FetchedRecords) and records.reading is not None
        }

    def _open(self, found: _Found, *, compact: bool) -> list[Edit]:
        start, _, end = found.records_span
        try:
            pieces = open_records(found.records, self._room)
        except Refused as error:
            self.note_refusal(*found.place, error.code, str(error.__cause__ or error.reason))
            code = Edit(*found.error_span, [error.code.to_bytes(2, "big")])
            return [code, Edit(start, end, [write_bytes_length(0, compact=compact)])]
        return [Edit(start, end, [write_bytes_length(sum(map(len, pieces)), compact=compact), *pieces])]


def name_needs(exchange: Exchange, topic_ids: Any) -> list[Need]:
    """Return the needs of names for those ids that aren't known and weren't asked for in vain."""
    find = exchange.connection.shared.topic_names.find
    needs = [TopicNameNeed(topic_id) for topic_id in topic_ids if topic_id is not None and find(topic_id) is None]
    return [need for need in needs if need not in exchange.failures]


def told_needs(exchange: Exchange, topic_ids: Sequence[bytes | None]) -> list[Need]:
    """Return what other workers may know of an answer's ids: names, and of plain topics whether the client was told.

    At the answer, since a session's later requests name no topics, and may come over another connection.
    """
    connection = exchange.connection
    names, rule_for = connection.shared.topic_names, connection.shared.policy.rule_for
    needs = name_needs(exchange, topic_ids)
    for topic_id in topic_ids:
        name = None if topic_id is None else names.find(topic_id)
        if name is not None and not rule_for(name).seal and not names.was_given(connection.client, topic_id or b""):
            gift = gift_need(exchange, topic_id or b"")
            needs += [] if gift is None else [gift]
    return needs


class Opening(NamedTuple):
    """How a topic's records are opened."""

    topic: str
    rule: Rule
    connection: Connection


def find_opening(exchange: Exchange, name: str | None, topic_id: bytes | None) -> Opening | Refused | None:
    """Return how a topic's records are opened, why they are refused, or None where they pass as they are."""
    connection = exchange.connection
    topic = exchange.topic_name(name, topic_id)
    if topic is None:
        return Refused(ErrorCode.UNKNOWN_TOPIC_ID, "the topic id is not known here yet")
    rule = connection.shared.policy.rule_for(topic)
    try:
        check_access(connection, topic, rule, Use.CONSUME)
    except Refused as error:
        return error
    if not rule.seal:
        if topic_id is None or connection.shared.topic_names.was_given(connection.client, topic_id):
            return None
        return Refused(ErrorCode.UNKNOWN_TOPIC_ID, "this client was not told this topic id by way of the proxy")
    return Opening(topic, rule, connection)


def fetched_records(
    opening: Opening | Refused, partition: int, records: memoryview, reading: Reading | None = None
) -> FetchedRecords | Refused:
    """Return a partition's records, or why there are none for the client."""
    if isinstance(opening, Refused):
        return opening
    topic, rule, connection = opening
    return FetchedRecords(records, topic=topic, partition=partition, rule=rule, connection=connection, reading=reading)


def carried_records(found: Iterable[tuple[tuple[str | None, int], FetchedRecords | Refused]]) -> Iterator[Carried]:
    """Yield whose records these are."""
    for (topic, partition), records in found:
        yield Carried(topic, partition, records.count if isinstance(records, FetchedRecords) else 0)


def open_in_steps(found: Iterable[FetchedRecords | Refused], room: Room) -> Iterator[None]:
    """Open records ahead of `open_records`, and yield after so many bytes."""
    opened = 0
    for records in found:
        for size in records.open_ahead(room) if isinstance(records, FetchedRecords) else ():
            opened += size
            if opened >= STEP_BYTES:
                yield
                opened = 0


def open_records(records: FetchedRecords | Refused, room: Room, *, whole: bool = False) -> list[Buffer]:
    """Return the opened records up to the first batch that doesn't open; with `whole`, all or none.

    :raises Refused: there are none to deliver.
    """
    if isinstance(records, Refused):
        raise records
    return records.open(room, whole=whole)
