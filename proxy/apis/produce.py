"""Produce: record sets are sealed; a refused partition is cut out, and its error put into the answer.

Other partitions of the request go on (R7). The answer is read whole, also an error's, since it may carry addresses
of new leaders (KIP-951).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kveil.protocol.kafka.primitives import Buffer, write_array_length, write_bytes_length
from kveil.protocol.kafka.splice import Edit, FrozenShape, Want, splice
from kveil.proxy.apis.endpoints import ENDPOINT, endpoint_edits
from kveil.proxy.apis.exchange import Answer, Exchange, Forward, Outcome
from kveil.proxy.apis.produce_answer import Refusal, answer_refusals, merge_refusals
from kveil.proxy.apis.sealing import seal_batch, sealing_needs
from kveil.proxy.config import Direction, Mode
from kveil.proxy.errors import CloseConnection, ErrorCode, Refused
from kveil.proxy.log import log_limited
from kveil.proxy.needs import Need, TopicNameNeed
from kveil.proxy.policy import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class _Topic:
    """A topic of the request. Spans and partitions are as the walker found them."""

    name: str | None
    topic_id: bytes | None
    rule: Rule | None
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

    _refusals: tuple[Refusal, ...] = ()
    _order: tuple[tuple[str | bytes, tuple[int, ...]], ...] = ()

    def request_needs(self) -> Sequence[Need]:
        """Return the topics' names, settings and keys that are missing."""
        self._walked = self.walk_request()
        self._topics = list(self._read_topics())
        if self.connection.direction is Direction.CONSUME:
            return ()
        needs: list[Need] = []
        for topic in self._topics:
            if topic.name is None and topic.topic_id is not None:
                need = TopicNameNeed(topic.topic_id)
                if need not in self.failures:
                    needs.append(need)
            elif topic.name is not None and topic.rule is not None and topic.rule.seal:
                needs += sealing_needs(topic.name, topic.rule, self.connection, self.failures)
        return needs

    def _read_topics(self) -> Iterator[_Topic]:
        _, _, topics = self._walked.values
        for span, name, topic_id, count_span, partitions in topics or ():
            known = self.topic_name(name, topic_id)
            rule = None if known is None else self.connection.shared.policy.rule_for(known)
            yield _Topic(
                name=known, topic_id=topic_id, rule=rule, span=span, count_span=count_span, partitions=partitions
            )

    def request(self) -> Outcome:
        """Return the sealed request without what is refused, or the answer if nothing is left of it."""
        acks, count_span, _ = self._walked.values
        edits: list[Edit] = []
        refusals: list[Refusal] = []
        topics_left = 0
        for topic in self._topics:
            topic_edits, topic_refusals = self._seal_topic(topic)
            if len(topic_refusals) == len(topic.partitions):
                edits.append(Edit(topic.span[0], topic.span[1], []))
            else:
                edits += topic_edits
                topics_left += 1
            refusals += topic_refusals
        if not refusals:
            return Forward(pieces=splice(self.frame, edits) if edits else None, is_answered=acks != 0)
        self._log_refusals(refusals)
        compact = self._compact
        edits.append(Edit(count_span[0], count_span[1], [write_array_length(topics_left, compact=compact)]))
        then_close = None if acks else f"a batch was refused and acks=0 has no answer: {refusals[0].reason}"
        if topics_left:
            self._refusals = tuple(refusals)
            self._order = tuple((t.topic_id or t.name or "", tuple(p[1] for p in t.partitions)) for t in self._topics)
            return Forward(pieces=splice(self.frame, edits), is_answered=acks != 0, then_close=then_close)
        if then_close:
            raise CloseConnection(then_close)
        return Answer(frame=answer_refusals(self.header, refusals, self.throttle_ms))

    @property
    def _compact(self) -> bool:
        return self.response_walker.flexible

    def _seal_topic(self, topic: _Topic) -> tuple[list[Edit], list[Refusal]]:
        """Return the edits that seal a topic's batches and cut out the refused ones, and the refusals."""
        edits: list[Edit] = []
        refusals: list[Refusal] = []
        for span, partition, records_span in topic.partitions:
            try:
                pieces = self._seal_partition(topic, partition, records_span)
            except Refused as error:
                edits.append(Edit(*span, []))
                refusals.append(
                    Refusal(
                        topic=topic.topic_id or topic.name or "",
                        partition=partition,
                        code=error.code,
                        reason=error.reason,
                    )
                )
                continue
            if pieces is not None:
                length = write_bytes_length(sum(map(len, pieces)), compact=self._compact)
                edits.append(Edit(records_span[0], records_span[2], [length, *pieces]))
        if refusals:
            count = write_array_length(len(topic.partitions) - len(refusals), compact=self._compact)
            edits.append(Edit(*topic.count_span, [count]))
        return edits, refusals

    def _seal_partition(self, topic: _Topic, partition: int, span: tuple[int, int, int]) -> list[Buffer] | None:
        """Return the sealed batch, None for a plain topic's, which passes as it is.

        :raises Refused: it may not pass. Whatever the reason, those behind it are refused too (R8).
        """
        records = self.frame[span[1] : span[2]]
        refused, place = self.connection.refused, topic.topic_id or topic.name or ""
        try:
            if refused and refused.is_behind(place, partition, records):
                raise Refused(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, "an earlier batch of this producer was refused")
            return self._seal_records(topic, partition, records)
        except Refused:
            refused.note(place, partition, records)
            raise

    def _seal_records(self, topic: _Topic, partition: int, records: memoryview) -> list[Buffer] | None:
        connection = self.connection
        if connection.direction is Direction.CONSUME:
            raise Refused(ErrorCode.TOPIC_AUTHORIZATION_FAILED, "this listener is for consumers: it refuses Produce")
        if topic.name is None or topic.rule is None:
            raise Refused(ErrorCode.UNKNOWN_TOPIC_ID, "the topic id is not known here yet")
        if not topic.rule.seal:
            given = connection.shared.topic_names.was_given
            if topic.topic_id is not None and not given(connection.client, topic.topic_id):
                raise Refused(ErrorCode.UNKNOWN_TOPIC_ID, "this client was not told this topic id by way of the proxy")
            return None
        return seal_batch(
            records,
            topic=topic.name,
            partition=partition,
            rule=topic.rule,
            produce_version=self.header.api_version,
            connection=connection,
            failures=self.failures,
        )

    def _log_refusals(self, refusals: Sequence[Refusal]) -> None:
        names = {t.topic_id or t.name: t.name for t in self._topics}
        for refusal in refusals:
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
        edits = endpoint_edits(frame, endpoints, self.connection, compact=walker.flexible)
        edits += self.throttle_edits(frame, throttle)
        edits += self._doubt_edits(frame, topics)
        if not edits and not self._refusals and not any(section.dropped for section in sections):
            return None
        answer = splice(frame, edits, sections)
        if not self._refusals:
            return answer
        return merge_refusals(self.header, b"".join(answer), self._order, self._refusals)

    def _doubt_edits(self, frame: memoryview, topics: Any) -> list[Edit]:
        """Return the edits that have a client try again where a topic's settings seem to have changed.

        A compacted topic takes no stubs, which have no keys: INVALID_RECORD. So a topic that was not compacted when
        its settings were read may be now; they are read again for the next attempt.
        """
        edits = []
        for name, topic_id, partitions in topics or ():
            for _, (start, end) in partitions or ():
                if int.from_bytes(frame[start:end], "big") != ErrorCode.INVALID_RECORD:
                    continue
                known = self.topic_name(name, topic_id)
                rule = None if known is None else self.connection.shared.policy.rule_for(known)
                if known is None or rule is None or not rule.seal or rule.mode is not Mode.AUTO:
                    continue
                shared = self.connection.shared
                if shared.topic_settings.doubt(known, shared.now()):
                    edits.append(Edit(start, end, [ErrorCode.NOT_ENOUGH_REPLICAS.to_bytes(2, "big")]))
        return edits
