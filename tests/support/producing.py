"""Produce as both sides see it: what the broker got, and what the client was told."""

from collections.abc import Mapping
from typing import Any

from kveil.proxy.errors import ErrorCode
from tests.support.conversation import Conversation, read_request, read_response
from tests.support.records import produced

PRODUCE = 0
BATCHES = [{"match": "*", "mode": "batch"}]
"""Rules that need no topic settings."""


def sent(talk: Conversation) -> dict[tuple[Any, int], bytes | None]:
    """What the broker got, by topic and partition."""
    (frame,) = talk.to_broker
    _, request = read_request(frame)
    return {
        (topic.name if hasattr(topic, "name") else topic.topic_id.bytes, part.index): part.records
        for topic in request.topic_data
        for part in topic.partition_data
    }


def answered(version: int, frame: bytes) -> list[tuple[Any, int, int, int]]:
    """What the client got: every partition in its order, with error and base offset."""
    return [
        (topic.name if version < 13 else topic.topic_id.bytes, part.index, int(part.error_code), part.base_offset)
        for topic in read_response(PRODUCE, version, frame).responses
        for part in topic.partition_responses
    ]


def broker_answers(
    talk: Conversation, version: int, number: int, topics: Mapping[Any, Mapping[int, Mapping[str, Any]]], **more: Any
) -> None:
    """Answer for these partitions."""
    responses = [
        {
            "name" if isinstance(topic, str) else "topic_id": topic,
            "partition_responses": [
                {"index": index, "log_append_time": None, **values} for index, values in parts.items()
            ],
        }
        for topic, parts in topics.items()
    ]
    talk.broker(PRODUCE, version, number, {"responses": responses, **more})


def error_of(
    talk: Conversation, records: bytes | None, *, topic: str = "t", version: int = 9
) -> tuple[ErrorCode, str | None]:
    """The error that one batch gets without being sent."""
    talk.client(PRODUCE, version, produced({topic: {0: records}}))
    assert talk.to_broker == []
    (frame,) = talk.to_client
    (_, index, code, offset), *rest = answered(version, frame)
    assert (index, offset, rest) == (0, -1, [])
    part = read_response(PRODUCE, version, frame).responses[0].partition_responses[0]
    return ErrorCode(code), getattr(part, "error_message", None)
