"""What a broker says of single records of a batch that it got sealed (KIP-467): it is left out of the answer.

The broker means what stands in for the records: of a compacted topic it names every record but the first, of a
timestamp that it doesn't take it names all. Clients go by the list: they tell the application that the records which
it doesn't name are good, and may be sent again without the others.
"""

from collections.abc import Container

from kveil.protocol.kafka.headers import RequestHeader
from kveil.protocol.kafka.primitives import write_array_length, write_string
from kveil.protocol.kafka.splice import Edit, FrozenShape, Want, response_walker
from kveil.proxy.errors import ErrorCode

MIN_VERSION = 8
"""The first version of Produce that has errors of records."""

_SHAPE = FrozenShape(
    {
        "responses": {
            "name": Want.VALUE,
            "topic_id": Want.VALUE,
            "partition_responses": {
                "error_code": Want.VALUE,
                "record_errors#": Want.SPAN,
                "record_errors": {"@": Want.SPAN},
                "error_message": Want.SPAN,
            },
        }
    }
)

_UNNAMED = "the broker refused the batch; it is sealed as a whole, so which of its records are at fault can't be told"
_COMPACTED = f"{_UNNAMED}. A compacted topic takes no batches sealed as a whole: see the rule's `mode`"


def record_error_edits(frame: memoryview, header: RequestHeader, sealed: Container[str | bytes]) -> list[Edit]:
    """Return the edits that empty the lists of those topics whose batches were sealed as a whole.

    Topics are named as in the request. The text goes too, since it repeats the list.
    """
    if header.api_version < MIN_VERSION:
        return []
    walker = response_walker(header.api_key, header.api_version, _SHAPE, drop_unknown=True)
    (topics,), _ = walker(frame)
    edits = []
    for name, topic_id, partitions in topics or ():
        if (topic_id or name) not in sealed:
            continue
        for code, count_span, errors, text_span in partitions or ():
            if not errors:
                continue
            text = _COMPACTED if code == ErrorCode.INVALID_RECORD else _UNNAMED
            ((_, end),) = errors[-1]
            edits.append(Edit(count_span[0], end, [write_array_length(0, compact=walker.flexible)]))
            edits.append(Edit(text_span[0], text_span[1], [write_string(text, compact=walker.flexible)]))
    return edits
