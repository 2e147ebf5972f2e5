"""ShareFetch of topics that the client may not consume: they are cut out of the request, and refused in its answer.

They must not reach the broker, which would acquire the records and count a delivery that never came about (KIP-932).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kveil.protocol.kafka.headers import RequestHeader
from kveil.protocol.kafka.messages import encode_response_part
from kveil.protocol.kafka.primitives import Buffer, write_array_length
from kveil.protocol.kafka.splice import Edit, FrozenShape, Want, request_walker, response_walker, splice
from kveil.proxy.apis.access import may
from kveil.proxy.apis.exchange import Exchange
from kveil.proxy.errors import ErrorCode
from kveil.proxy.policy import Use

_ASKED = FrozenShape(
    {
        "topics#": Want.SPAN,
        "topics": {"@": Want.SPAN, "topic_id": Want.VALUE, "partitions": {"partition_index": Want.VALUE}},
    }
)
_ANSWERED = FrozenShape({"responses#": Want.SPAN, "responses": {"@": Want.SPAN}})


class RefusedShares(NamedTuple):
    """The topics of a request that the client may not consume."""

    topics: tuple[tuple[bytes, tuple[int, ...]], ...]
    """Topic id and partitions."""
    are_all: bool
    remaining: Sequence[Buffer]
    """The request without them."""


def refused_shares(exchange: Exchange) -> RefusedShares:
    """Return the topics of a ShareFetch request that must not reach the broker."""
    key, version, _, _ = exchange.header
    (count_span, topics), _ = request_walker(key, version, _ASKED)(exchange.frame)
    refused = []
    edits = []
    for span, topic_id, partitions in topics or ():
        name = exchange.topic_name(None, topic_id)
        if name is not None and not may(exchange.connection, name, Use.CONSUME):
            refused.append((topic_id, tuple(index for (index,) in partitions or ())))
            edits.append(Edit(span[0], span[1], []))
    left = len(topics or ()) - len(refused)
    edits.append(Edit(count_span[0], count_span[1], [write_array_length(left, compact=True)]))
    return RefusedShares(tuple(refused), left == 0, splice(exchange.frame, edits) if refused else ())


def refused_topic(topic_id: bytes, partitions: Iterable[int], text: str) -> Mapping[str, Any]:
    """Return a topic's part of an answer, with an error at each partition."""
    error = {
        "error_code": ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        "error_message": text,
        "records": b"",
        "current_leader": {"leader_id": -1, "leader_epoch": -1},
    }
    return {"topic_id": topic_id, "partitions": [{"partition_index": index, **error} for index in partitions]}


def add_refused(header: RequestHeader, answer: bytes, refused: RefusedShares, text: str) -> list[Buffer]:
    """Return the broker's answer with the refused topics behind its own."""
    walker = response_walker(header.api_key, header.api_version, _ANSWERED)
    (count_span, topics), _ = walker(answer)
    end = topics[-1][0][1] if topics else count_span[1]
    parts: list[Buffer] = [
        encode_response_part(header.api_key, header.api_version, "responses", refused_topic(*topic, text))
        for topic in refused.topics
    ]
    count = write_array_length(len(topics) + len(parts), compact=True)
    return splice(answer, [Edit(count_span[0], count_span[1], [count]), Edit(end, end, parts)])
