"""A record through the proxy's own code to the broker and back, and what the broker holds of it meanwhile."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.errors import ProtocolError
from kveil.protocol.kafka.record_batch import read_header
from kveil.proxy.context import Shared
from kveil.proxy.doctor.canary_seen import KEY, Canary, judge
from kveil.proxy.doctor.cluster import Heard
from kveil.proxy.doctor.findings import Finding, failure, skipped, warning
from kveil.proxy.errors import QuestionFailed
from kveil.proxy.net.own_client import OwnClient, own_client
from kveil.proxy.net.own_topic import NotThereYet, plain_batch
from kveil.proxy.net.topic_scan import NOT_THERE_YET, TopicScan

CHECK: Final = "canary"
PREFIX: Final = "_kveil.doctor."
"""Of temporary topics, so that a login may be given rights to them alone."""

_WRITE_MS: Final = 5_000
_BY_NAME: Final = 12
"""The last version of Produce and of Metadata that names topics alone."""
_KEPT_MS: Final = 3_600_000
"""How long a record lives in a temporary topic that could not be deleted."""
_SETTLE_SECONDS: Final = 10.0
_ROUND_TRIP_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.1
_DELETE_SECONDS: Final = 5.0
_PARTITION: Final = 0

_T = TypeVar("_T")


class NotMade(Exception):
    """There is no temporary topic. The text says why."""


async def look_at_canary(shared: Shared, topic: str | None) -> list[Finding]:
    """Produce to the topic, or to a temporary one, and read it back as it is stored and as it was."""
    name = topic or f"{PREFIX}{secrets.token_hex(4)}"
    rule = shared.policy.rule_for(name)
    if rule.per_record_key:
        text = f"by its rule {topic or 'a temporary topic'} has a key for each record key, and none is made to be left"
        return [skipped(CHECK, text, "--canary TOPIC writes to a topic without key_per: record_key")]
    if topic is not None:
        return await _try(shared, topic, settle_seconds=0)
    if not rule.seal:
        text = f"the rules leave a temporary topic plain ({shared.policy.matched_by(name)})"
        return [skipped(CHECK, text, "--canary TOPIC writes to a topic that is sealed")]
    if name in rule.key.name:
        text = f"a temporary topic would need a key of its own, {rule.key}"
        return [skipped(CHECK, text, "--canary TOPIC writes to a topic whose key is there")]
    left: list[Finding] = []
    try:
        async with _temporary_topic(shared, name, left):
            findings = await _try(shared, name, settle_seconds=_SETTLE_SECONDS)
    except NotMade as error:
        remedy = f"allow this login to create and delete topics named {PREFIX}*, or say --canary TOPIC or --no-canary"
        return [warning(CHECK, f"no temporary topic could be made: {error}", remedy)]
    return [*findings, *left]


@asynccontextmanager
async def _temporary_topic(shared: Shared, name: str, left: list[Finding]) -> AsyncIterator[None]:
    """Make a topic for the length of a block. `left` tells of one that stays."""
    try:
        async with own_client(shared) as client:
            await _create(client, name)
    except QuestionFailed as error:
        raise NotMade(str(error)) from None
    try:
        yield
    finally:
        # Also after the deadline, or Ctrl-C.
        try:
            async with asyncio.timeout(_DELETE_SECONDS), own_client(shared) as client:
                await _delete(client, name)
        except (QuestionFailed, TimeoutError) as error:
            text = f"the temporary topic {name} could not be deleted: {error or 'no answer'}"
            left.append(warning(CHECK, text, f"kafka-topics.sh --delete --topic {name}, with a login that may"))


async def _create(client: OwnClient, name: str) -> None:
    """Its timestamps are the broker's, which shows the broker's clock."""
    configs = {
        "cleanup.policy": "delete",
        "message.timestamp.type": "LogAppendTime",
        "retention.ms": str(_KEPT_MS),
    }
    values = {
        "topics": [
            {
                "name": name,
                "num_partitions": 1,
                "replication_factor": -1,
                "configs": [{"name": each, "value": value} for each, value in configs.items()],
            }
        ],
        "timeout": _WRITE_MS,
        "validate_only": False,
    }
    (result,) = (await client.ask(ApiKey.CREATE_TOPICS, values)).topics
    if result.error_code:
        raise QuestionFailed(f"the broker answered {result.error_code.name}")


async def _delete(client: OwnClient, name: str) -> None:
    values = {"topics": [{"name": name, "topic_id": None}], "topic_names": [name], "timeout": _WRITE_MS}
    (result,) = (await client.ask(ApiKey.DELETE_TOPICS, values)).responses
    if result.error_code:
        raise QuestionFailed(f"the broker answered {result.error_code.name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Produced:
    """Where the canary is, and between which times of this host's clock it got there."""

    offset: int
    sent_at: float
    answered_at: float


async def _try(shared: Shared, topic: str, *, settle_seconds: float) -> list[Finding]:
    """Make the round trip. What goes wrong on it is a finding, so that what is left behind is told too."""
    heard = Heard()
    try:
        async with asyncio.timeout(_ROUND_TRIP_SECONDS):
            return await _round_trip(shared, topic, heard, settle_seconds)
    except TimeoutError:
        reason = f"{topic}: it wasn't back within {_ROUND_TRIP_SECONDS:g} s"
    except (QuestionFailed, ProtocolError) as error:
        reason = str(error)
    text = "; ".join(dict.fromkeys([reason, *heard.reasons]))
    return [failure(CHECK, text, "see whether this login may write to the topic and read it; docs/troubleshooting.md")]


async def _round_trip(shared: Shared, topic: str, heard: Heard, settle_seconds: float) -> list[Finding]:
    value = secrets.token_hex(32).encode()
    scan = TopicScan(shared, topic)
    await _settled(scan.begin, settle_seconds)
    leader = scan.leader_of(_PARTITION)
    if leader is None:
        raise QuestionFailed(f"{topic} has no partition {_PARTITION}")
    async with own_client(shared, leader, logger=heard) as client:
        produced = await _settled(lambda: _produce(client, topic, value), settle_seconds)
    opened = TopicScan(shared, topic, opened=True)
    await opened.begin()
    canary = Canary(
        topic=topic,
        value=value,
        offset=produced.offset,
        stored=await _batch_at(scan, produced.offset),
        opened=await _batch_at(opened, produced.offset),
        sent_at=produced.sent_at,
        answered_at=produced.answered_at,
    )
    return judge(canary, shared.policy)


async def _settled(ask: Callable[[], Awaitable[_T]], seconds: float) -> _T:
    """Ask until the brokers have heard of a new topic, which they do one by one."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await ask()
        except NotThereYet:
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(_PAUSE_SECONDS)


async def _produce(client: OwnClient, topic: str, value: bytes) -> _Produced:
    sent_at = time.time()
    partition = {"index": _PARTITION, "records": plain_batch([(KEY, value)], int(sent_at * 1000))}
    values = {"acks": -1, "timeout": _WRITE_MS, "topic_data": [{"name": topic, "partition_data": [partition]}]}
    answer = await client.ask(ApiKey.PRODUCE, values, most=_BY_NAME)
    answered_at = time.time()
    (row,) = (row for each in answer.responses for row in each.partition_responses)
    if row.error_code:
        detail = getattr(row, "error_message", None)
        text = f"producing to {topic}: {row.error_code.name}{f' ({detail})' if detail else ''}"
        raise NotThereYet(text) if int(row.error_code) in NOT_THERE_YET else QuestionFailed(text)
    return _Produced(offset=int(row.base_offset), sent_at=sent_at, answered_at=answered_at)


async def _batch_at(scan: TopicScan, offset: int) -> bytes:
    """Return the batch with the record at an offset, empty if there is none."""
    batches = scan.batches(offset, _PARTITION)
    try:
        async for found in batches:
            if read_header(found.batch).last_offset >= offset:
                return bytes(found.batch)
        return b""
    finally:
        await batches.aclose()
