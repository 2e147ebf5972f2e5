"""Topics and access rules, made through librdkafka: a JVM for each call would take a second."""

import time
from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourcePatternType,
    ResourceType,
)

CALL_SECONDS = 30.0
_RETRY_SECONDS = 0.02


class ClusterAdmin:
    """A few verbs over one AdminClient."""

    def __init__(self, bootstrap: str) -> None:
        settings = {
            "bootstrap.servers": bootstrap,
            "log_level": 0,  # a broker that was stopped on purpose isn't worth a line
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200,
            "allow.auto.create.topics": False,
        }
        self._client = AdminClient(settings)

    def wait_for_brokers(self, ids: set[int], timeout: float = 60.0) -> None:
        """Wait until the cluster names exactly these brokers and a controller among them."""
        deadline = time.monotonic() + timeout
        seen: set[int] = set()
        while time.monotonic() < deadline:
            try:
                answer = self._client.list_topics(timeout=max(deadline - time.monotonic(), 0.1))
            except KafkaException:
                continue  # it waited for the whole time by itself
            seen = set(answer.brokers)
            if seen == ids and answer.controller_id in ids:
                return
            time.sleep(_RETRY_SECONDS)
        raise TimeoutError(f"brokers {ids} expected, {seen} seen within {timeout} s")

    def create_topic(self, name: str, partitions: int, replication: int, config: Mapping[str, object] | None) -> None:
        """Create a topic and wait until each partition has a leader that serves it."""
        settings = {key: str(value) for key, value in (config or {}).items()}
        topic = NewTopic(name, num_partitions=partitions, replication_factor=replication, config=settings)
        self._client.create_topics([topic], operation_timeout=CALL_SECONDS)[name].result(CALL_SECONDS)
        self._wait_for_topic(name, partitions)

    def delete_topic(self, name: str) -> None:
        """Delete a topic and wait until the cluster knows it no more."""
        self._client.delete_topics([name], operation_timeout=CALL_SECONDS)[name].result(CALL_SECONDS)
        self._wait_for_topic(name, 0)

    def _wait_for_topic(self, name: str, partitions: int) -> None:
        deadline = time.monotonic() + CALL_SECONDS
        while time.monotonic() < deadline:
            topic = self._client.list_topics(name, timeout=CALL_SECONDS).topics[name]
            if partitions == 0 and topic.error and topic.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return
            leaders = [each.leader for each in topic.partitions.values()]
            if partitions and len(leaders) == partitions and min(leaders) >= 0 and self._are_served(name, partitions):
                return
            time.sleep(_RETRY_SECONDS)
        raise TimeoutError(f"topic {name} did not get {partitions} partitions with leaders")

    def _are_served(self, name: str, partitions: int) -> bool:
        """Whether the leaders answer: a broker tells clients of its partitions a moment before it takes them over."""
        latest = OffsetSpec.latest()
        asked = {TopicPartition(name, each): latest for each in range(partitions)}
        try:
            for answer in self._client.list_offsets(asked).values():
                answer.result(CALL_SECONDS)
        except KafkaException:
            return False
        return True

    def alter_topic_config(self, name: str, config: Mapping[str, object | None]) -> None:
        """Set topic settings, and remove those that are None."""
        changes = [
            ConfigEntry(
                key,
                None if value is None else str(value),
                incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET,
            )
            for key, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=changes)
        self._client.incremental_alter_configs([resource])[resource].result(CALL_SECONDS)

    def topic_config(self, name: str) -> dict[str, str]:
        """A topic's settings as the broker sees them."""
        resource = ConfigResource(ResourceType.TOPIC, name)
        entries = self._client.describe_configs([resource])[resource].result(CALL_SECONDS)
        return {key: entry.value for key, entry in entries.items()}

    def set_acl(
        self, user: str, kind: ResourceType, name: str, operation: AclOperation, permission: AclPermissionType
    ) -> None:
        """Allow or deny a user one operation on one resource ("*" for all of the kind)."""
        rule = AclBinding(kind, name, ResourcePatternType.LITERAL, f"User:{user}", "*", operation, permission)
        self._client.create_acls([rule])[rule].result(CALL_SECONDS)
