"""What the proxy asks and changes of topics' configs, for itself and for its commands."""

from collections.abc import Iterable, Mapping
from typing import Any

from kveil.proxy.errors import ErrorCode, QuestionFailed, Refused
from kveil.proxy.topics import TopicSettings

TOPIC = 2
"""The resource type of a topic in requests about configs."""

_SET = 0
"""The operation that sets a config."""
_SETTINGS = (
    "cleanup.policy",
    "compression.type",
    "max.message.bytes",
    "message.timestamp.type",
    "message.timestamp.before.max.ms",
    "message.timestamp.after.max.ms",
)
_DENIED = frozenset({29, 31})
"""TOPIC_AUTHORIZATION_FAILED and CLUSTER_AUTHORIZATION_FAILED."""


def settings_question(topics: Iterable[str]) -> Mapping[str, Any]:
    """Return the values of a DescribeConfigs request for the topics' settings (KIP-133)."""
    return {
        "resources": [
            {"resource_type": TOPIC, "resource_name": topic, "configuration_keys": _SETTINGS} for topic in topics
        ]
    }


def read_settings(answer: Any, topics: Iterable[str]) -> dict[str, TopicSettings | Exception]:
    """Return what a DescribeConfigs answer says of each topic, or why it says nothing now."""
    results = {result.resource_name: result for result in answer.results}
    return {topic: _settings(results.get(topic)) for topic in topics}


def limit_change(topic: str, max_message_bytes: int) -> Mapping[str, Any]:
    """Return the values of an IncrementalAlterConfigs request that sets max.message.bytes (KIP-339)."""
    change = {"name": "max.message.bytes", "config_operation": _SET, "value": str(max_message_bytes)}
    resource = {"resource_type": TOPIC, "resource_name": topic, "configs": [change]}
    return {"resources": [resource], "validate_only": False}


def _settings(result: Any) -> TopicSettings | Exception:
    if result is None:
        return QuestionFailed("the broker's answer leaves the topic out")
    code = int(result.error_code)
    if code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
        return Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "the broker knows no such topic")
    if code in _DENIED:
        return TopicSettings(unreadable="DESCRIBE_CONFIGS is denied to this client")
    if code:
        return QuestionFailed(f"the broker answered {result.error_code.name}")
    values = {config.name: config.value for config in result.configs}
    policy = values.get("cleanup.policy")
    if policy is None:
        return TopicSettings(unreadable="the broker's answer has no cleanup.policy")
    numbers = {name: int(value) for name, value in values.items() if value and value.isdecimal()}
    return TopicSettings(
        cleanup_policy=frozenset(part.strip() for part in policy.split(",")),
        compression_type=values.get("compression.type"),
        max_message_bytes=numbers.get("max.message.bytes"),
        message_timestamp_type=values.get("message.timestamp.type"),
        message_timestamp_before_max_ms=numbers.get("message.timestamp.before.max.ms"),
        message_timestamp_after_max_ms=numbers.get("message.timestamp.after.max.ms"),
    )
