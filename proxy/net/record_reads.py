"""Reads of the proxy's own: a Fetch between the client's requests, for a look at one partition's records."""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.errors import FrameError
from kveil.protocol.kafka.splice import FrozenShape, Want, response_walker
from kveil.proxy.errors import QuestionFailed
from kveil.proxy.needs import ReadRecords, RecordsNeed
from kveil.proxy.net.questions import Questions
from kveil.proxy.session import Parked
from kveil.proxy.topics import DEFAULT_MAX_MESSAGE_BYTES

_CLIENT = -1
"""The replica id of a client."""
_BY_NAME = 12
"""The last version of Fetch that names topics instead of giving their ids."""
_READ_COMMITTED = 1
_EARLIEST = -2
_OFFSET_OUT_OF_RANGE = 1

_RECORDS = FrozenShape(
    {
        "throttle_time": Want.VALUE,
        "responses": {
            "topic": Want.VALUE,
            "partitions": {
                "partition_index": Want.VALUE,
                "error_code": Want.VALUE,
                "high_watermark": Want.VALUE,
                "last_stable_offset": Want.VALUE,
                "records": Want.DATA,
            },
        },
    }
)
_OFFSETS = FrozenShape(
    {
        "throttle_time": Want.VALUE,
        "topics": {
            "name": Want.VALUE,
            "partitions": {"partition_index": Want.VALUE, "error_code": Want.VALUE, "offset": Want.VALUE},
        },
    }
)


class _Fetched(NamedTuple):
    error_code: int
    high_watermark: int
    last_stable_offset: int
    records: memoryview


async def read_records(questions: Questions, parked: Parked) -> None:
    """Meet the needs of records that a parked frame has; note those that can't be met as failures."""
    needs = [need for need in parked.needs if isinstance(need, RecordsNeed)]
    try:
        if needs:
            await questions.version(ApiKey.FETCH)  # so that it is looked up once, not by each of them
        await asyncio.gather(*(_Read(questions, parked, need).meet() for need in needs))
    except (QuestionFailed, FrameError) as error:
        parked.failures.update(dict.fromkeys(needs, error))


class _Read:
    """One partition's records on their way."""

    def __init__(self, questions: Questions, parked: Parked, need: RecordsNeed) -> None:
        self._questions = questions
        self._parked = parked
        self._need = need

    async def meet(self) -> None:
        """Read the records: from the log start on if the log begins later than asked for (DeleteRecords)."""
        need, start = self._need, self._need.offset
        try:
            fetched = await self._fetch(start)
            if fetched.error_code == _OFFSET_OUT_OF_RANGE:
                start = await self._log_start()
                fetched = await self._fetch(start)
            if fetched.error_code:
                raise QuestionFailed(f"the broker answered a Fetch with error {fetched.error_code}")
        except (QuestionFailed, FrameError) as error:
            self._parked.failures[need] = error
            return
        end = fetched.last_stable_offset if need.isolation_level == _READ_COMMITTED else fetched.high_watermark
        self._parked.read[need] = ReadRecords(start, end, fetched.records)

    async def _fetch(self, offset: int) -> _Fetched:
        """Ask for one partition alone, outside of any fetch session.

        The request's `max_bytes` bounds the answer; its first batch comes whole, however large it is (KIP-74).
        """
        need, shared = self._need, self._questions.connection.shared
        settings = shared.topic_settings.find(need.topic, shared.now())
        partition = {
            "partition": need.partition,
            "fetch_offset": offset,
            "partition_max_bytes": max(DEFAULT_MAX_MESSAGE_BYTES, (settings and settings.max_message_bytes) or 0),
            "current_leader_epoch": -1,
            "last_fetched_epoch": -1,
            "log_start_offset": -1,
        }
        values = {
            "replica_id": _CLIENT,
            "max_wait": 0,
            "min_bytes": 0,
            "max_bytes": need.max_bytes,
            "isolation_level": need.isolation_level,
            "session_id": 0,
            "session_epoch": -1,
            "topics": [{"topic": need.topic, "partitions": [partition]}],
        }
        frame, found = await self._ask(ApiKey.FETCH, _RECORDS, values, limit=_BY_NAME)
        error_code, high_watermark, last_stable_offset, (_, start, end) = found
        return _Fetched(error_code, high_watermark, last_stable_offset, frame[start:end])

    async def _log_start(self) -> int:
        partition = {"partition_index": self._need.partition, "current_leader_epoch": -1, "timestamp": _EARLIEST}
        values = {
            "replica_id": _CLIENT,
            "isolation_level": self._need.isolation_level,
            "topics": [{"name": self._need.topic, "partitions": [partition]}],
        }
        _, (error_code, offset) = await self._ask(ApiKey.LIST_OFFSETS, _OFFSETS, values)
        if error_code or offset < 0:
            raise QuestionFailed(f"the broker answered with error {error_code} where the log begins")
        return int(offset)

    async def _ask(
        self, api_key: ApiKey, shape: FrozenShape, values: Mapping[str, Any], *, limit: int = 32767
    ) -> tuple[memoryview, tuple[Any, ...]]:
        """Return the answer's frame, and what it says of the partition."""
        version = await self._questions.version(api_key, limit)
        if version is None:
            raise QuestionFailed(f"the broker offers no {api_key.name} that can be used here")
        frame = await self._questions.ask(api_key, version, values)
        (throttle_ms, topics), _ = response_walker(api_key, version, shape)(frame)
        self._parked.throttle_ms += throttle_ms or 0
        for topic, partitions in topics or ():
            for index, *found in partitions or ():
                if (topic, index) == (self._need.topic, self._need.partition):
                    return frame, tuple(found)
        raise QuestionFailed("the broker's answer leaves the partition out")
