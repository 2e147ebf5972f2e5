"""Lookups by time as a client sees them: what the proxy makes of a broker's answer.

talk.records = Log(*stored(writer, timed([T + 5, T + 1])))
look_up(talk, {0: T + 3}, {0: (0, 0, T + 5)})
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.context import Shared
from kveil.proxy.needs import ReadRecords, RecordsNeed
from tests.support.conversation import Conversation, read_response
from tests.support.raw_client import batch
from tests.support.records import sealed

LIST_OFFSETS = ApiKey.LIST_OFFSETS
T = 1_700_000_000_000
MAX_TIMESTAMP = -3
STAMPS = [T + 5, T + 1, T + 9, T + 9, T + 3]
COUNT_AT = 60
"""The lowest byte of a batch's record count."""


Answers = dict[int, tuple[int, int, int, int | None]]
"""Error code, offset, timestamp and leader epoch by partition."""


def timed(stamps: Sequence[int], codec: int = 0) -> bytes:
    """A client's batch with a record for each timestamp."""
    return batch([b"value"] * len(stamps), codec=codec, timestamp_ms=stamps)


def stored(writer: Shared, *batches: bytes, topic: str = "t", partition: int = 0) -> list[bytes]:
    """Sealed batches, one behind the other."""
    found: list[bytes] = []
    offset = 0
    for each in batches:
        found.append(sealed(writer, topic, partition, each, offset=offset))
        offset += each[COUNT_AT]
    return found


class Log:
    """A partition as the proxy's own reads see it: one batch, or as many as `max_bytes` has room for."""

    def __init__(self, *batches: bytes, begin: int = 0) -> None:
        self.asked: list[RecordsNeed] = []
        self._batches = batches
        self._begin = begin

    def __call__(self, need: RecordsNeed) -> ReadRecords:
        """Read as asked for, or from the log's start on."""
        self.asked.append(need)
        start, end, taken = max(need.offset, self._begin), 0, b""
        for each in self._batches:
            end = int.from_bytes(each[:8], "big") + each[COUNT_AT]
            if end > start and (not taken or len(taken) + len(each) <= need.max_bytes):
                taken += each
        return ReadRecords(start, end, memoryview(taken))


def request(timestamps: Mapping[int, int], topic: str = "t", **more: Any) -> dict[str, Any]:
    """The values of a request, timestamps by partition."""
    partitions = [
        {"partition_index": index, "current_leader_epoch": -1, "timestamp": at} for index, at in timestamps.items()
    ]
    return {"replica_id": -1, "topics": [{"name": topic, "partitions": partitions}], **more}


def answer(found: Mapping[int, tuple[int, int, int]], topic: str = "t", **more: Any) -> dict[str, Any]:
    """The values of a broker's answer: error code, offset and timestamp by partition. The leader epoch is 3."""
    partitions = [
        {"partition_index": index, "offset": offset, "timestamp": at, "leader_epoch": 3, "error_code": error}
        for index, (error, offset, at) in found.items()
    ]
    return {"topics": [{"name": topic, "partitions": partitions}], **more}


def look_up(
    talk: Conversation,
    timestamps: Mapping[int, int],
    found: Mapping[int, tuple[int, int, int]],
    *,
    version: int = 7,
    topic: str = "t",
    **more: Any,
) -> Answers:
    """What a client is told that looks up timestamps of which the broker says what it found."""
    number = talk.client(LIST_OFFSETS, version, request(timestamps, topic, **more))
    talk.broker(LIST_OFFSETS, version, number, answer(found, topic))
    (frame,) = talk.to_client
    return {
        part.partition_index: (int(part.error_code), part.offset, part.timestamp, getattr(part, "leader_epoch", None))
        for topic in read_response(LIST_OFFSETS, version, frame).topics
        for part in topic.partitions
    }


def early(talk: Conversation) -> list[str]:
    """Why the broker's answers were left as they are."""
    return [line["reason"] for line in talk.log.of("time_lookup_early")]
