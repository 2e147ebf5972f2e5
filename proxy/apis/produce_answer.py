"""The errors of refused partitions in answers to Produce."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kveil.protocol.kafka.headers import RequestHeader
from kveil.protocol.kafka.messages import encode_response, encode_response_part
from kveil.protocol.kafka.primitives import Buffer, write_array_length, write_string
from kveil.protocol.kafka.splice import Edit, FrozenShape, Want, response_walker, splice
from kveil.proxy.errors import ErrorCode, RecordError

_MERGED = FrozenShape(
    {
        "responses#": Want.SPAN,
        "responses": {
            "@": Want.SPAN,
            "name": Want.VALUE,
            "topic_id": Want.VALUE,
            "partition_responses": {"@": Want.SPAN, "index": Want.VALUE},
        },
    }
)

Topic = str | bytes
"""A topic by its name or its id, as the request has it."""


class Refusal(NamedTuple):
    """A partition that was not sent."""

    topic: Topic
    partition: int
    code: ErrorCode
    reason: str
    record_errors: Sequence[RecordError] = ()

    def values(self) -> Mapping[str, Any]:
        """The partition's answer; versions below 8 have no text (KIP-467)."""
        return {
            "index": self.partition,
            "error_code": self.code,
            "base_offset": -1,
            "error_message": self.reason,
            "record_errors": [
                {"batch_index": error.batch_index, "batch_index_error_message": error.reason}
                for error in self.record_errors
            ],
        }


def answer_refusals(header: RequestHeader, refusals: Sequence[Refusal], throttle_ms: int) -> bytes:
    """Return the answer to a request of which nothing was sent."""
    topics: dict[Topic, list[Mapping[str, Any]]] = {}
    for refusal in refusals:
        topics.setdefault(refusal.topic, []).append(refusal.values())
    responses = [
        {("name" if isinstance(topic, str) else "topic_id"): topic, "partition_responses": partitions}
        for topic, partitions in topics.items()
    ]
    values = {"responses": responses, "throttle_time": throttle_ms}
    return encode_response(header.api_key, header.api_version, header.correlation_id, values)


def merge_refusals(
    header: RequestHeader,
    answer: bytes,
    order: Iterable[tuple[Topic, Sequence[int]]],
    refusals: Iterable[Refusal],
) -> list[Buffer]:
    """Return the broker's answer with the refused partitions in it, in the order of the request."""
    walker = response_walker(header.api_key, header.api_version, _MERGED)
    (count_span, topics), _ = walker(answer)
    parts: dict[tuple[Topic, int], bytes] = {}
    for _, name, topic_id, partitions in topics:
        for (start, end), index in partitions:
            parts[topic_id or name, index] = answer[start:end]
    for refusal in refusals:
        parts[refusal.topic, refusal.partition] = encode_response_part(
            header.api_key, header.api_version, "responses.partition_responses", refusal.values()
        )
    compact = walker.flexible
    merged: list[Buffer] = []
    count = 0
    for topic, indices in order:
        found = [parts[topic, index] for index in indices if (topic, index) in parts]
        merged += [_write_topic(topic, compact=compact), write_array_length(len(found), compact=compact), *found]
        merged += [b"\0"] if compact else []
        count += 1
    end = topics[-1][0][1] if topics else count_span[1]
    edit = Edit(count_span[0], end, [write_array_length(count, compact=compact), *merged])
    return splice(answer, [edit])


def _write_topic(topic: Topic, *, compact: bool) -> bytes:
    return topic if isinstance(topic, bytes) else write_string(topic, compact=compact)
