"""ListOffsets: offsets that the broker finds by time in sealed topics are made exact.

The broker's answer is parked while the proxy reads on its own what it speaks of (`time_lookup`). Later requests of the
client wait meanwhile: the proxy's Fetch must not stand behind one of the client's, which may take its time.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.splice import Edit, FrozenShape, Want, splice
from kveil.proxy.apis.exchange import Exchange, Forward, Outcome
from kveil.proxy.apis.time_lookup import MAX_TIMESTAMP, LookupFailed, TimeLookup
from kveil.proxy.config import Direction
from kveil.proxy.log import log_limited
from kveil.proxy.needs import Need, RecordsNeed

LOOKUP_SECONDS = 10
"""After so long nothing more is read, and the broker's other answers stay: clients give up after 30 s."""

AT_ONCE = 4
"""How many partitions are read at a time: each may take as much memory as a frame."""

Span = tuple[int, int]


class _Found(NamedTuple):
    """A partition of the answer, and the lookup that may change it."""

    lookup: TimeLookup
    offset_span: Span
    timestamp_span: Span
    epoch_span: Span | None
    """None before version 4, which has no such field."""


class ListOffsets(Exchange):
    """Offsets by time, and the first and last ones, which pass as they are."""

    REQUEST = FrozenShape(
        {
            "isolation_level": Want.VALUE,
            "topics": {
                "name": Want.VALUE,
                "partitions": {"partition_index": Want.VALUE, "timestamp": Want.VALUE},
            },
        }
    )
    RESPONSE = FrozenShape(
        {
            "throttle_time": Want.SPAN,
            "topics": {
                "name": Want.VALUE,
                "partitions": {
                    "partition_index": Want.VALUE,
                    "error_code": Want.VALUE,
                    "timestamp": Want.SPAN,
                    "offset": Want.SPAN,
                    "leader_epoch": Want.SPAN,
                },
            },
        }
    )

    _found: list[_Found] | None = None

    def request(self) -> Outcome:
        """Forward the request, and hold later ones if it looks for records of a sealed topic."""
        (isolation_level, topics), _ = self.walk_request()
        self._isolation_level = isolation_level or 0
        rule_for = self.connection.shared.policy.rule_for
        self._asked = {
            (name, partition): timestamp
            for name, partitions in topics or ()
            for partition, timestamp in partitions or ()
            if (timestamp >= 0 or timestamp == MAX_TIMESTAMP) and rule_for(name).seal
        }
        if self.connection.direction is Direction.PRODUCE:
            self._asked = {}  # nothing is opened for producers
        return Forward(holds_requests=bool(self._asked))

    def response_needs(self, frame: memoryview) -> Sequence[Need]:
        """Return what the next lookups must read or have opened."""
        if self._found is None:
            self._began = self.connection.shared.now()
            self._found = list(self._find(frame)) if self._asked else []
        needs: list[Need] = []
        for lookup in [found.lookup for found in self._found if not found.lookup.is_done]:
            try:
                missing = lookup.needs(self.read, self.failures)
                if any(isinstance(need, RecordsNeed) for need in missing):
                    self._check_bounds()
                needs += missing
            except LookupFailed as error:
                self._leave(lookup, str(error))
            if len(needs) >= AT_ONCE:
                break
        return needs

    def _find(self, frame: memoryview) -> Iterator[_Found]:
        """Yield the partitions for which the broker found something in a sealed topic."""
        (self._throttle, topics), _ = self.response_walker(frame)
        asked = dict(self._asked)
        for name, partitions in topics or ():
            for partition, error_code, timestamp_span, offset_span, epoch_span in partitions or ():
                timestamp = asked.pop((name, partition), None)
                answered = int.from_bytes(frame[slice(*offset_span)], "big", signed=True)
                if timestamp is None or error_code or answered < 0:
                    continue
                lookup = TimeLookup(
                    topic=name,
                    partition=partition,
                    timestamp=timestamp,
                    answered=answered,
                    isolation_level=self._isolation_level,
                    rule=self.connection.shared.policy.rule_for(name),
                    connection=self.connection,
                )
                yield _Found(lookup, offset_span, timestamp_span, epoch_span)

    def _check_bounds(self) -> None:
        shared = self.connection.shared
        if shared.now() - self._began > LOOKUP_SECONDS:
            raise LookupFailed(f"not found in {LOOKUP_SECONDS} s")
        if sum(found.lookup.bytes_read for found in self._found or ()) > shared.settings.limits.frame_bytes:
            raise LookupFailed("more was to be read than one frame may hold")

    def _leave(self, lookup: TimeLookup, reason: str) -> None:
        lookup.give_up()
        log_limited(
            self.connection.log.warning,
            "time_lookup_early",
            key=(lookup.topic, lookup.partition, reason),
            topic=lookup.topic,
            partition=lookup.partition,
            reason=reason,
        )

    def response(self, frame: memoryview) -> Sequence[Buffer] | None:
        """Return the answer with the places that were found."""
        edits: list[Edit] = []
        for lookup, offset_span, timestamp_span, epoch_span in self._found or ():
            if lookup.found is not None:
                offset, timestamp, leader_epoch = lookup.found
                edits.append(_number(offset_span, offset))
                edits.append(_number(timestamp_span, timestamp))
                if epoch_span is not None:
                    edits.append(_number(epoch_span, leader_epoch))
        if self._found:
            edits += self.throttle_edits(frame, self._throttle)
        return splice(frame, edits) if edits else None


def _number(span: Span, value: int) -> Edit:
    start, end = span
    return Edit(start, end, [value.to_bytes(end - start, "big", signed=True)])
