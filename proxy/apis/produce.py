"""Produce: record sets are sealed; a refused partition is cut out, and its error put into the answer.

Other partitions of the request go on (R7). The answer is read whole, also an error's, since it may carry addresses
of new leaders (KIP-951).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kveil.protocol.kafka.primitives import Buffer, write_array_length, write_bytes_length
from kveil.protocol.kafka.record_batch import HEADER_LENGTH, read_header
from kveil.protocol.kafka.splice import Edit, FrozenShape, Want, request_walker, splice
from kveil.proxy.apis.access import check_access
from kveil.proxy.apis.endpoints import ENDPOINT, endpoint_edits
from kveil.proxy.apis.exchange import Answer, Exchange, Forward, Outcome, gift_need
from kveil.proxy.apis.placing import PlacedBatches, Placing, settle
from kveil.proxy.apis.produce_answer import Refusal, answer_refusals, merge_refusals
from kveil.proxy.apis.produced import seal_batch
from kveil.proxy.apis.record_errors import record_error_edits
from kveil.proxy.apis.record_sealing import find_record_keys
from kveil.proxy.apis.sealing import Sealing, find_limit_need, find_sealing
from kveil.proxy.config import Direction, Mode
from kveil.proxy.errors import CloseConnection, ErrorCode, Refused
from kveil.proxy.log import log_limited
from kveil.proxy.needs import Need, TopicNameNeed
from kveil.proxy.policy import Use
from kveil.proxy.tracing import Carried


class _Topic(NamedTuple):
    """A topic of the request. Spans and partitions are as the walker found them."""

    place: str | bytes
    """Its name or its id, as the request has it."""
    name: str | None
    sealing: Sealing | Refused | None
    """How its batches are sealed, why they are refused, or None where they pass as they are."""
    span: tuple[int, int]
    count_span: tuple[int, int]
    partitions: list[tuple[tuple[int, int], int, tuple[int, int, int]]]


class Produce(Exchange):
    """Records on their way to the broker."""

    REQUEST = FrozenShape(
        {
            "acks": Want.VALUE,
            "topic_data#": Want.SPAN,
            "topic_data": {
                "@": Want.SPAN,
                "name": Want.VALUE,
                "topic_id": Want.VALUE,
                "partition_data#": Want.SPAN,
                "partition_data": {"@": Want.SPAN, "index": Want.VALUE, "records": Want.DATA},
            },
        }
    )
    RESPONSE = FrozenShape(
        {
            "responses": {
                "name": Want.VALUE,
                "topic_id": Want.VALUE,
                "partition_responses": {"index": Want.VALUE, "error_code": Want.SPAN},
            },
            "throttle_time": Want.SPAN,
            "node_endpoints": ENDPOINT,
        }
    )
    CARRIES_ADDRESSES = True
    SEALS = True

    _refusals: tuple[Refusal, ...] = ()
    _order: tuple[tuple[str | bytes, tuple[int, ...]], ...] = ()
    _placed: PlacedBatches = {}  # noqa: RUF012 - replaced, never changed

    def request_needs(self) -> Sequence[Need]:
        """Return the topics' names, settings and keys that are missing."""
        walker = request_walker(self.header.api_key, self.header.api_version, self.REQUEST)
        self._compact = walker.flexible
        (self._acks, self._count_span, topics), _ = walker(self.frame)
        self._topics = []
        needs: list[Need] = []
        for span, name, topic_id, count_span, partitions in topics or ():
            known = self.topic_name(name, topic_id)
            sealing = self._find_sealing(known, topic_id)
            if isinstance(sealing, Sealing) and sealing.rule.per_record_key:
                batches = [self.frame[at:end] for _, _, (_, at, end) in partitions]
                sealing = find_record_keys(sealing, batches, self.connection.shared, self.failures)
            if isinstance(sealing, Sealing) and sealing.rule.raise_message_limit:
                need = find_limit_need(sealing, (end - at for _, _, (_, at, end) in partitions))
                needs += [need] if need is not None and need not in self.failures else []
            if sealing is None or isinstance(sealing, Sealing | Refused):
                self._topics.append(_Topic(topic_id or name or "", known, sealing, span, count_span, partitions))
            else:
                needs.append(sealing)
        return needs

    def _find_sealing(self, topic: str | None, topic_id: bytes | None) -> Sealing | Refused | Need | None:
        """Return how the topic's batches are sealed, why they are refused, what is missing, or None: they pass."""
        connection = self.connection
        if connection.direction is Direction.CONSUME:
            return Refused(ErrorCode.TOPIC_AUTHORIZATION_FAILED, "this listener is for consumers: it refuses Produce")
        if topic is None:
            need = TopicNameNeed(topic_id or b"")
            if need not in self.failures:
                return need
            return Refused(ErrorCode.UNKNOWN_TOPIC_ID, "the topic id is not known here yet")
        rule = connection.shared.policy.rule_for(topic)
        try:
            check_access(connection, topic, rule, Use.PRODUCE)
        except Refused as error:
            return error
        if rule.seal:
            return find_sealing(topic, rule, connection, self.failures)
        if topic_id is not None and connection.offers_produce_by_id:
            # The offer was made before a reload brought the first plain topic. The next one is to go by name (R10).
            raise CloseConnection(f"{topic} is plain by a rule that is new: producers are to name topics from now on")
        if topic_id is not None and not connection.shared.topic_names.was_given(connection.client, topic_id):
            if (gift := gift_need(self, topic_id)) is not None:
                return gift
            return Refused(ErrorCode.UNKNOWN_TOPIC_ID, "this client was not told this topic id by way of the proxy")
        return None

    def request(self) -> Outcome:
        """Return the sealed request without what is refused, or the answer if nothing is left of it."""
        edits: list[Edit] = []
        refusals: list[Refusal] = []
        topics_left = 0
        self._sealed_at = self.connection.shared.now()
        for topic in self._topics:
            topic_edits, topic_refusals = self._seal_topic(topic)
            if len(topic_refusals) == len(topic.partitions):
                edits.append(Edit(topic.span[0], topic.span[1], []))
            else:
                edits += topic_edits
                topics_left += 1
            refusals += topic_refusals
        is_answered = self._acks != 0
        if not refusals:
            return Forward(splice(self.frame, edits) if edits else None, is_answered)
        self._log_refusals(refusals)
        count = write_array_length(topics_left, compact=self._compact)
        edits.append(Edit(self._count_span[0], self._count_span[1], [count]))
        then_close = None if is_answered else f"a batch was refused and acks=0 has no answer: {refusals[0].reason}"
        if topics_left:
            self._refusals = tuple(refusals)
            self._order = tuple((topic.place, tuple(p[1] for p in topic.partitions)) for topic in self._topics)
            return Forward(splice(self.frame, edits), is_answered, then_close)
        if then_close:
            raise CloseConnection(then_close)
        return Answer(answer_refusals(self.header, refusals, self.throttle_ms))

    def _seal_topic(self, topic: _Topic) -> tuple[list[Edit], list[Refusal]]:
        """Return the edits that seal a topic's batches and cut out the refused ones, and the refusals."""
        edits: list[Edit] = []
        refusals: list[Refusal] = []
        for span, partition, (start, records_at, end) in topic.partitions:
            try:
                pieces = self._seal_partition(topic, partition, self.frame[records_at:end])
            except Refused as error:
                edits.append(Edit(span[0], span[1], []))
                refusals.append(Refusal(topic.place, partition, error.code, error.reason, error.record_errors))
                continue
            if pieces is not None:
                length = write_bytes_length(sum(map(len, pieces)), compact=self._compact)
                edits.append(Edit(start, end, [length, *pieces]))
        if refusals:
            count = write_array_length(len(topic.partitions) - len(refusals), compact=self._compact)
            edits.append(Edit(*topic.count_span, [count]))
        return edits, refusals

    def _seal_partition(self, topic: _Topic, partition: int, records: memoryview) -> list[Buffer] | None:
        """Return the sealed batch, None for a plain topic's, which passes as it is.

        :raises Refused: it may not pass. Whatever the reason, those behind it are refused too (R8).
        """
        refused, sealing = self.connection.refused, topic.sealing
        header = bytes(records[:HEADER_LENGTH])  # sealing writes over it
        try:
            if refused and refused.is_behind(topic.place, partition, header):
                raise Refused(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, "an earlier batch of this producer was refused")
            if sealing is None:
                return None
            if isinstance(sealing, Refused):
                raise Refused(sealing.code, sealing.reason, sealing.record_errors)
            placing = None
            if sealing.key.demands_position:
                place = topic.place, partition
                placing = Placing(
                    sealing,
                    self.connection,
                    topic=topic.place,
                    partition=partition,
                    acks=self._acks,
                    produce_version=self.header.api_version,
                )
            pieces = seal_batch(
                records,
                sealing,
                partition=partition,
                produce_version=self.header.api_version,
                connection=self.connection,
                placing=placing,
            )
            if placing is not None and placing.placed is not None:
                self._placed = {**self._placed, place: placing.placed}
            return pieces
        except Refused:
            refused.note(topic.place, partition, header)
            raise

    def carried(self) -> Iterator[Carried]:
        """Yield whose records the request has."""
        for topic in self._topics:
            for _, partition, (_, at, end) in topic.partitions:
                records = read_header(self.frame, at).record_count if end - at >= HEADER_LENGTH else 0
                yield Carried(topic.name, partition, max(records, 0))

    def _log_refusals(self, refusals: Sequence[Refusal]) -> None:
        names = {topic.place: topic.name for topic in self._topics}
        for refusal in refusals:
            self.note_refusal(names[refusal.topic], refusal.partition, refusal.code, refusal.reason)
            log_limited(
                self.connection.log.warning,
                "produce_refused",
                key=(refusal.topic, refusal.partition, refusal.code),
                topic=names[refusal.topic],
                partition=refusal.partition,
                error=refusal.code.name,
                reason=refusal.reason,
            )

    def response(self, frame: memoryview) -> Sequence[Buffer] | None:
        """Return the broker's answer with local addresses, and with what was refused put back in its place."""
        walker = self.response_walker
        (topics, throttle, endpoints), sections = walker(frame)
        if self._placed:
            settle(self._placed, self.header, frame)
        edits = self._error_edits(frame, topics)
        if endpoints:
            edits += endpoint_edits(frame, endpoints, self.connection, compact=walker.flexible)
        if self.throttle_ms:
            edits += self.throttle_edits(frame, throttle)
        if not (edits or self._refusals or sections):
            return None
        answer = splice(frame, edits, sections)
        if not self._refusals:
            return answer
        return merge_refusals(self.header, b"".join(answer), self._order, self._refusals)

    def _error_edits(self, frame: memoryview, topics: Any) -> list[Edit]:
        """Return the edits of the broker's errors that aren't for the client as they are."""
        if not any(any(frame[start:end]) for _, _, parts in topics or () for _, (start, end) in parts or ()):
            return []
        whole = {
            topic.place: topic.sealing
            for topic in self._topics
            if isinstance(topic.sealing, Sealing) and topic.sealing.mode is Mode.BATCH
        }
        return [*self._doubt_edits(frame, topics, whole), *record_error_edits(frame, self.header, whole)]

    def _doubt_edits(self, frame: memoryview, topics: Any, whole: Mapping[str | bytes, Sealing]) -> list[Edit]:
        """Return the edits that have a client try again where a topic's settings seem to have changed.

        A compacted topic takes no stubs, which have no keys: INVALID_RECORD. So a topic that was not compacted when
        its settings were read may be now; they are read again for the next attempt.
        """
        edits = []
        cache, now = self.connection.shared.topic_settings, self.connection.shared.now()
        for name, topic_id, partitions in topics or ():
            sealing = whole.get(topic_id or name)
            if sealing is None or sealing.rule.mode is not Mode.AUTO:
                continue
            for _, (start, end) in partitions or ():
                if int.from_bytes(frame[start:end], "big") != ErrorCode.INVALID_RECORD:
                    continue
                if cache.doubt(sealing.topic, now, sealed_at=self._sealed_at):
                    edits.append(Edit(start, end, [ErrorCode.NOT_ENOUGH_REPLICAS.to_bytes(2, "big")]))
        return edits
