"""ShareFetch: as Fetch, but by topic ids alone, and a partition is delivered whole or not at all (KIP-932).

The broker has acquired the records for this consumer before the proxy sees them. A record that is acquired and then
missing would be acknowledged as a gap, which loses it: so a partition that doesn't open whole errs whole, with no
acquired records, and the broker archives it after the group's limit of deliveries. Where a key can't be had for now,
the connection is closed instead: that ends the session, which releases the records uncounted. From then on requests for
the topic don't go to the broker before its key is there: each lock that runs out would count as a delivery.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kveil.protocol.kafka.messages import encode_response
from kveil.protocol.kafka.primitives import Buffer, write_array_length, write_bytes_length
from kveil.protocol.kafka.splice import Edit, FrozenShape, Want, request_walker, splice
from kveil.proxy.apis.endpoints import ENDPOINT, endpoint_edits
from kveil.proxy.apis.exchange import Answer, Exchange, Forward, Outcome
from kveil.proxy.apis.fetch import (
    NO_RECORDS_HERE,
    Opening,
    carried_records,
    fetched_records,
    find_opening,
    name_needs,
    open_in_steps,
    open_records,
    told_needs,
)
from kveil.proxy.apis.opening import FetchedRecords, Room
from kveil.proxy.apis.positions import find_reading
from kveil.proxy.apis.share_access import RefusedShares, add_refused, refused_shares, refused_topic
from kveil.proxy.config import Direction
from kveil.proxy.errors import CloseConnection, ErrorCode, Refused
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeyUnavailable
from kveil.proxy.needs import HidingKeyNeed, Need, OpeningKeyNeed
from kveil.proxy.tracing import Carried

_RETRIABLE = frozenset({ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.UNKNOWN_TOPIC_ID})

NOT_A_CONSUMER = "this client is not among the topic's consumers"

_PARTITIONS = FrozenShape({"topics": {"topic_id": Want.VALUE, "partitions": {"partition_index": Want.VALUE}}})


class _Found(NamedTuple):
    place: tuple[str | None, int]
    error_span: tuple[int, int]
    records_span: tuple[int, int, int]
    acquired_span: tuple[int, int]
    records: FetchedRecords | Refused


class ShareFetch(Exchange):
    """Records on their way to a member of a share group."""

    REQUEST = FrozenShape({"topics": {"topic_id": Want.VALUE}})
    RESPONSE = FrozenShape(
        {
            "throttle_time": Want.SPAN,
            "responses": {
                "topic_id": Want.VALUE,
                "partitions": {
                    "partition_index": Want.VALUE,
                    "error_code": Want.SPAN,
                    "records": Want.DATA,
                    "acquired_records": Want.SPAN,
                },
            },
            "node_endpoints": ENDPOINT,
        }
    )
    CARRIES_ADDRESSES = True

    _refused: RefusedShares | None = None

    @property
    def opens(self) -> bool:
        """Whether the answer has records."""
        return bool(self._found)

    def request_needs(self) -> Sequence[Need]:
        """Return the names of the request's topics, where they aren't known."""
        if self.connection.direction is Direction.PRODUCE:
            return ()
        (topics,), _ = self.walk_request()
        ids = [topic_id for (topic_id,) in topics or ()]
        return name_needs(self, ids) or self._awaited_keys(ids)

    def _awaited_keys(self, topic_ids: Iterable[bytes]) -> list[Need]:
        """Return the keys that were missing when the topics' records were last fetched, and are missing still."""
        shared = self.connection.shared
        missing: list[Need] = []
        for topic_id in topic_ids:
            need = shared.awaited_keys.get(self.topic_name(None, topic_id) or "")
            if need is None or need in self.failures:
                continue
            if self._is_missing(need):
                missing.append(need)
            else:
                del shared.awaited_keys[need.topic]
        return missing

    def _is_missing(self, need: OpeningKeyNeed | HidingKeyNeed) -> bool:
        shared = self.connection.shared
        try:
            if isinstance(need, HidingKeyNeed):
                return shared.keys.hiding_key(need.topic) is None
            keys = shared.keys_for(need.block.provider)
            return keys.opening_key(need.topic, need.kid, need.block, need.rule) is None
        except KeyDenied:
            return True
        except KeyRefused:  # which is for the records' own answer to say
            return False

    def request(self) -> Outcome:
        """Forward the request without what is refused, or refuse it where no records are handed out.

        :raises CloseConnection: a key that is known to be missing is missing still.
        """
        for failure in self.failures.values():
            if isinstance(failure, KeyDenied | KeyUnavailable):
                raise CloseConnection(f"records are left with the broker: no key can be had for now: {failure}")
        key, version, correlation_id, _ = self.header
        if self.connection.direction is Direction.PRODUCE:
            return Answer(frame=encode_response(key, version, correlation_id, self._refusal(NO_RECORDS_HERE)))
        refused = refused_shares(self)
        if not refused.topics:
            return Forward()
        if refused.are_all:
            return Answer(frame=encode_response(key, version, correlation_id, self._refusal(NOT_A_CONSUMER)))
        self._refused = refused
        return Forward(pieces=refused.remaining)

    def _refusal(self, text: str) -> Mapping[str, Any]:
        """Return the answer where no records are handed out.

        Clients tell the application of an error at a partition only; one of the whole request they just try again,
        without a pause. A session's later requests name no partitions: it isn't known, so that all are named again.
        """
        key, version = self.header.api_key, self.header.api_version
        (topics,), _ = request_walker(key, version, _PARTITIONS)(self.frame)
        if not topics:
            return {"error_code": ErrorCode.SHARE_SESSION_NOT_FOUND, "error_message": text}
        return {
            "responses": [
                refused_topic(topic_id, (index for (index,) in partitions), text) for topic_id, partitions in topics
            ]
        }

    def response_needs(self, frame: memoryview) -> Sequence[Need]:
        """Return the keys of the answer's envelopes, where they aren't known."""
        self._walked = self.response_walker(frame)
        if self.connection.shared.topic_names.is_copy:
            told = told_needs(self, [topic_id for topic_id, _ in self._walked.values[1] or ()])
            if told:
                return told
        self._found = []
        self._room = Room()
        needs: dict[Need, None] = {}
        for topic_id, partitions in self._walked.values[1] or ():
            opening = find_opening(self, None, topic_id)
            if opening is None:
                continue
            for index, error_span, records_span, acquired_span in partitions or ():
                if records_span[1] == records_span[2]:
                    continue
                reading = None
                if isinstance(opening, Opening):  # some batches are given out, and not all: each stands for itself
                    topic, rule, connection = opening
                    reading = find_reading(topic, topic_id, index, rule, connection, start=None)
                records = fetched_records(opening, index, frame[records_span[1] : records_span[2]], reading)
                place = self.topic_name(None, topic_id), index
                self._found.append(_Found(place, error_span, records_span, acquired_span, records))
                if isinstance(records, FetchedRecords):
                    needs.update(dict.fromkeys(records.needs(self.failures)))
        return list(needs)

    def carried(self) -> Iterator[Carried]:
        """Yield whose records the answer has, without those that pass as they are."""
        return carried_records((found.place, found.records) for found in self._found)

    def response_steps(self) -> Iterator[None]:
        """Open the records ahead."""
        return open_in_steps((found.records for found in self._found), self._room)

    def response(self, frame: memoryview) -> Sequence[Buffer] | None:
        """Return the answer with opened records and local addresses."""
        (throttle, _, endpoints), sections = self._walked
        edits = endpoint_edits(frame, endpoints, self.connection, compact=True)
        edits += self.throttle_edits(frame, throttle)
        for need, failure in self.failures.items():
            if isinstance(need, OpeningKeyNeed | HidingKeyNeed) and isinstance(failure, KeyDenied | KeyUnavailable):
                self.connection.shared.awaited_keys[need.topic] = need
        for found in self._found:
            edits += self._open(found)
        pieces = splice(frame, edits, sections)
        if self._refused is None:
            return pieces
        return add_refused(self.header, b"".join(pieces), self._refused, NOT_A_CONSUMER)

    def _open(self, found: _Found) -> list[Edit]:
        start, _, end = found.records_span
        if isinstance(found.records, Refused) and found.records.code == ErrorCode.TOPIC_AUTHORIZATION_FAILED:
            # The session is older than the rule. Its end gives back uncounted what was acquired for this client.
            raise CloseConnection(f"a share session's topic may not be read any more: {found.records.reason}")
        try:
            pieces = open_records(found.records, self._room, whole=True)
        except Refused as error:
            # A key that is denied may be allowed again, and until then each answer would count as a delivery.
            if error.code in _RETRIABLE or isinstance(error.__cause__, KeyDenied):
                raise CloseConnection(f"acquired records can't be opened for now: {error.reason}") from error
            self.note_refusal(*found.place, error.code, str(error.__cause__ or error.reason))
            return [
                Edit(*found.error_span, [error.code.to_bytes(2, "big")]),
                Edit(start, end, [write_bytes_length(0, compact=True)]),
                Edit(*found.acquired_span, [write_array_length(0, compact=True)]),
            ]
        return [Edit(start, end, [write_bytes_length(sum(map(len, pieces)), compact=True), *pieces])]
