"""What of a topic's settings will make trouble."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from kveil.proxy.apis.sealing import limit_with_room, sealing_mode
from kveil.proxy.config import Mode
from kveil.proxy.context import Shared
from kveil.proxy.doctor.findings import Finding, failure, ok, skipped, warning
from kveil.proxy.net.own_client import own_client
from kveil.proxy.net.topic_admin import describe_topics
from kveil.proxy.policy import Policy, Rule
from kveil.proxy.topics import DEFAULT_MAX_MESSAGE_BYTES, TopicSettings

CHECK: Final = "topics"
_KEEPS: Final = frozenset({"producer", "uncompressed"})
"""Of compression.type: sealed batches stay as they were sent, or grow by nothing."""


async def look_at_topics(shared: Shared, topics: Sequence[str]) -> list[Finding]:
    """Judge the topics that are named."""
    if not topics:
        return [skipped(CHECK, "none is named", "kveil doctor TOPIC... looks at their settings")]
    async with own_client(shared) as client:
        found = await describe_topics(client, topics)
    return judge_topics(shared.policy, found)


def judge_topics(policy: Policy, found: Mapping[str, TopicSettings | Exception]) -> list[Finding]:
    """Say of each topic what will make trouble, or how it is sealed."""
    return [finding for topic, settings in found.items() for finding in _judge(policy, topic, settings)]


def _judge(policy: Policy, topic: str, settings: TopicSettings | Exception) -> Sequence[Finding]:
    check = f"topic {topic}"
    if isinstance(settings, Exception):
        text = f"its settings can't be read: {settings}"
        return [failure(check, text, "see whether it is there, and whether this login may describe it")]
    rule = policy.rule_for(topic)
    if not rule.seal:
        return [ok(check, f"PLAIN ({policy.matched_by(topic)})")]
    troubles = list(_troubles(check, topic, rule, settings))
    mode = sealing_mode(rule.mode, settings)
    return troubles or [ok(check, f"sealed in {mode} mode with {rule.key} ({policy.matched_by(topic)})")]


def _troubles(check: str, topic: str, rule: Rule, settings: TopicSettings) -> Iterator[Finding]:
    if settings.unreadable and rule.mode is Mode.AUTO:
        text = f"its settings can't be read ({settings.unreadable}), so its records are sealed one by one"
        yield warning(check, text, "grant DESCRIBE_CONFIGS, or pin the mode in its rule")
    if settings.is_compacted and rule.mode is Mode.BATCH:
        text = "it is compacted, and its rule says mode: batch: the broker refuses what has no key"
        yield failure(check, text, "say mode: auto in its rule, or set cleanup.policy to delete")
    limit, mode = settings.max_message_bytes, sealing_mode(rule.mode, settings)
    needed = limit_with_room(DEFAULT_MAX_MESSAGE_BYTES, mode, is_announced=rule.is_sealed_announced)
    if limit is not None and limit < needed and not rule.raise_message_limit:
        text = (
            f"max.message.bytes {limit} leaves no room for what sealing adds to the largest batches; those that don't "
            "shrink are refused"
        )
        yield warning(check, text, f"kveil prepare {topic}")
    if settings.message_timestamp_type == "LogAppendTime" and rule.create_time_only and mode is Mode.RECORD:
        text = "message.timestamp.type is LogAppendTime, and its rule says timestamps: create: none of it is delivered"
        yield failure(check, text, "set message.timestamp.type to CreateTime, or leave timestamps out")
    compression = settings.compression_type
    if compression is not None and compression not in _KEEPS:
        text = f"compression.type {compression} has the broker compress what is sealed already, which only costs time"
        yield warning(check, text, "set compression.type to producer")
