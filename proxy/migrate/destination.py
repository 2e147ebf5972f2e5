"""The two topics of a copy, before it begins: what their rules say, and a destination that is fit for it."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.apis.sealing import LARGEST_LIMIT, limit_with_room, sealing_mode
from kveil.proxy.apis.topic_configs import TOPIC
from kveil.proxy.config import Mode
from kveil.proxy.migrate.cluster import Cluster, Topic, check
from kveil.proxy.migrate.errors import MigrateError, MigrateRefused, TryAgain
from kveil.proxy.policy import Policy
from kveil.proxy.topics import DEFAULT_MAX_MESSAGE_BYTES, TopicSettings

_OF_THE_TOPIC: Final = 1
"""The config source of a setting that was made for this topic (DYNAMIC_TOPIC_CONFIG)."""
_LEFT_OUT: Final = frozenset(
    {
        "compression.type",  # sealed records don't shrink: what producers chose stays
        "leader.replication.throttled.replicas",  # these name partitions' brokers
        "follower.replication.throttled.replicas",
        "message.timestamp.type",
        "max.message.bytes",
    }
)
_EXISTS: Final = 36
_NOT_CONTROLLER: Final = 41
_CREATE_MS: Final = 25_000
_READY_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Configs:
    """A topic's settings: all that count, and those that were made for it."""

    all: Mapping[str, str]
    own: Mapping[str, str]

    @property
    def is_compacted(self) -> bool:
        """Whether the log cleaner drops records by key."""
        return "compact" in self.all.get("cleanup.policy", "")


def check_rules(policy: Policy, source: str, dest: str, *, to_plain: bool) -> None:
    """Pass if the rules of both topics fit each other.

    :raises MigrateRefused: they don't, with what to do.
    """
    sealed = policy.rule_for(source).seal, policy.rule_for(dest).seal
    if source == dest:
        raise MigrateRefused("SOURCE and DEST are the same topic: name a new one, which is created")
    if sealed == (False, False):
        raise MigrateRefused(
            f"the rules say that {source} and {dest} are both plain ({policy.matched_by(source)}, "
            f"{policy.matched_by(dest)}): nothing would be sealed; write a rule for {dest}"
        )
    if sealed == (True, False) and not to_plain:
        raise MigrateRefused(
            f"{source} is sealed, and the rules say that {dest} is plain ({policy.matched_by(dest)}): the cluster "
            "would see all of it. If that is what you want, say --to-plain"
        )
    if to_plain and sealed[1]:
        raise MigrateRefused(
            f"--to-plain, and the rules say that {dest} is sealed ({policy.matched_by(dest)}): give it seal: none"
        )


async def read_configs(cluster: Cluster, topic: str) -> Configs:
    """Return a topic's settings."""
    values = {"resources": [{"resource_type": TOPIC, "resource_name": topic, "configuration_keys": None}]}
    (result,) = (await cluster.ask(ApiKey.DESCRIBE_CONFIGS, values, most=4)).results
    check(result.error_code, f"the settings of {topic}")
    settings = {each.name: each.value for each in result.configs if each.value is not None}
    own = {each.name for each in result.configs if int(each.config_source) == _OF_THE_TOPIC}
    return Configs(all=settings, own={name: value for name, value in settings.items() if name in own})


def settings_for(source: Configs, mode: Mode | None, *, is_announced: bool = False) -> dict[str, str]:
    """Return the settings of a new destination: the source's own, its timestamps kept, and room for what sealing adds.

    `mode` is None for a plain one.
    """
    limit = int(source.all.get("max.message.bytes", DEFAULT_MAX_MESSAGE_BYTES))
    found = {name: value for name, value in source.own.items() if name not in _LEFT_OUT}
    found["message.timestamp.type"] = "CreateTime"
    room = limit if mode is None else limit_with_room(limit, mode, is_announced=is_announced)
    found["max.message.bytes"] = str(min(room, LARGEST_LIMIT))
    return found


def check_destination(source: Topic, dest: Topic, configs: Configs, dest_configs: Configs) -> None:
    """Pass if an existing destination can take the source's records as they are.

    :raises MigrateRefused: it can't.
    """
    if dest.leaders.keys() != source.leaders.keys():
        raise MigrateRefused(
            f"{dest.name} has {len(dest.leaders)} partitions and {source.name} has {len(source.leaders)}: records keep "
            "their partitions; name a new topic, which is created"
        )
    if dest_configs.all.get("message.timestamp.type") == "LogAppendTime":
        raise MigrateRefused(
            f"{dest.name} has message.timestamp.type LogAppendTime, by which the broker would replace the records' "
            "timestamps: set it to CreateTime"
        )
    if dest_configs.is_compacted and not configs.is_compacted:
        raise MigrateRefused(
            f"{dest.name} is compacted and {source.name} isn't: records of the same key would be lost; change its "
            "cleanup.policy"
        )


def mode_for(policy: Policy, dest: str, configs: Configs) -> Mode | None:
    """Return how the destination is sealed, None for plain. `configs` are its own, or those that it will have."""
    rule = policy.rule_for(dest)
    if not rule.seal:
        return None
    cleanup = frozenset(part.strip() for part in configs.all.get("cleanup.policy", "").split(","))
    return sealing_mode(rule.mode, TopicSettings(cleanup_policy=cleanup))


async def create(cluster: Cluster, source: Topic, name: str, settings: Mapping[str, str]) -> Topic:
    """Create the destination, and return it once each partition has a leader.

    :raises MigrateError: the cluster doesn't.
    """
    topic = {
        "name": name,
        "num_partitions": len(source.leaders),
        "replication_factor": source.replicas,
        "assignments": [],
        "configs": [{"name": each, "value": value} for each, value in settings.items()],
    }
    values = {"topics": [topic], "timeout": _CREATE_MS, "validate_only": False}
    answer = await cluster.ask(ApiKey.CREATE_TOPICS, values, most=6)
    if int(answer.topics[0].error_code) == _NOT_CONTROLLER:  # before KRaft only one broker does it
        controller = (await cluster.ask(ApiKey.METADATA, {"topics": []}, most=9)).controller_id
        answer = await cluster.ask(ApiKey.CREATE_TOPICS, values, most=6, node=controller)
    (result,) = answer.topics
    if int(result.error_code) not in (0, _EXISTS):
        reason = getattr(result, "error_message", None) or result.error_code.name
        raise MigrateError(f"{name} can't be created: {reason}")
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            found = await cluster.find_topic(name)
            if found is not None and len(found.leaders) == len(source.leaders):
                return found
        except TryAgain:
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise MigrateError(f"{name} was created, and isn't ready after {_READY_SECONDS:g} s")
        await asyncio.sleep(_LOOK_SECONDS)
