"""Fetch as a client sees it: what becomes of the records that a broker gives."""

from collections.abc import Mapping
from typing import Any

from tests.support.conversation import Conversation, read_response
from tests.support.records import fetched

FETCH = 1
Found = tuple[int, bytes | None]


def fetch(
    talk: Conversation, topics: Mapping[Any, Mapping[int, bytes | None]], *, version: int = 12, **more: Any
) -> dict[tuple[Any, int], Found]:
    """The answer to a client that the broker gives these records, by topic and partition: (error, records)."""
    number = talk.client(FETCH, version, {"topics": []})
    talk.to_broker  # noqa: B018 - taken out
    talk.broker(FETCH, version, number, fetched(topics, **more))
    (frame,) = talk.to_client
    return {
        (topic.topic if version < 13 else topic.topic_id.bytes, part.partition_index): (
            int(part.error_code),
            part.records,
        )
        for topic in read_response(FETCH, version, frame).responses
        for part in topic.partitions
    }


def fetch_one(talk: Conversation, records: bytes, **options: Any) -> Found:
    """The same of one partition."""
    return fetch(talk, {"t": {0: records}}, **options)["t", 0]
