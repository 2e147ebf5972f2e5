"""Which topic gets what: the rules of the configuration, answered for a topic's name.

The first rule whose pattern matches decides. Where none does, a preset's names and Kafka's four internal
topics are plain, and every other topic is sealed with the defaults: a topic that was forgotten is protected.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final

from kveil.protocol.envelope import registry
from kveil.proxy.config import (
    Compress,
    Fit,
    Mode,
    Preset,
    RecordKeys,
    Seal,
    Settings,
    Skip,
    StubCodec,
    Timestamps,
    TopicRule,
)

# Kafka's brokers write these themselves, so nothing of the clients' could be sealed in them (kafka.md, R2).
INTERNAL_TOPICS: Final = frozenset(
    {"__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"}
)
# Topics that these programs compact and read back as configuration. The names are the ones of their shipped
# settings; a deployment that renamed them writes a rule.
PRESET_TOPICS: Final[Mapping[Preset, frozenset[str]]] = MappingProxyType(
    {
        Preset.CONNECT: frozenset({"connect-configs", "connect-offsets", "connect-status"}),
        Preset.SCHEMA_REGISTRY: frozenset({"_schemas"}),
    }
)
# The ids that envelopes have of providers (FORMAT.md, section 8), by their names in the configuration.
PROVIDER_IDS: Final[Mapping[str, int]] = MappingProxyType({"keyfile": registry.KEY_FILE})
# Names come from clients and brokers, so the memory for answers is bounded. Rules are shared, entries small.
REMEMBERED_TOPICS: Final = 16_384


class Use(StrEnum):
    """What a client does with a topic's records."""

    PRODUCE = "produce"
    CONSUME = "consume"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What holds for one topic."""

    seal: bool
    mode: Mode
    key: str
    # (provider id, key name) of every key that may have wrapped what is read, `key` among them.
    accept_keys: frozenset[tuple[int, str]]
    accept_plain: bool
    stub_codec: StubCodec
    # Whether the proxy compresses what came uncompressed: always, or where a batch doesn't fit otherwise.
    compress: bool = False
    compress_to_fit: bool = True
    raise_message_limit: bool = False
    # Record mode: what the broker sees, and what of its additions is delivered.
    hide_keys: bool = True
    create_time_only: bool = False
    pass_headers: frozenset[bytes] = frozenset()
    # Whether envelopes name their partition, for readers of another one.
    origin_partition: bool = False
    # The topic that the key derivation of read records names; None for the topic itself.
    sealed_as: str | None
    any_partition: bool = False
    # Who may; None for everybody, also for clients that nobody has asked who they are.
    producers: frozenset[str] | None = None
    consumers: frozenset[str] | None = None

    def admits(self, use: Use, principal: str | None) -> bool:
        """Whether a principal may use the topic so. None is a client that hasn't proved who it is."""
        named = self.producers if use is Use.PRODUCE else self.consumers
        return named is None or principal in named


class Policy:
    """The rules of one configuration. Immutable: a new configuration is a new policy."""

    def __init__(self, settings: Settings) -> None:
        provider = PROVIDER_IDS[settings.keys.provider]
        self._rules = tuple((rule.match, _compiled(rule, provider)) for rule in settings.topics)
        self._default = _compiled(TopicRule(match="*"), provider)
        self._plain = _compiled(TopicRule(match="*", seal=Seal.NONE), provider)
        self._preset_topics = frozenset[str]().union(*(PRESET_TOPICS[preset] for preset in settings.presets))
        self._skips = _by_partition(settings.skip)
        self._decided: dict[str, Rule] = {}

    def rule_for(self, topic: str) -> Rule:
        """The rule of `topic`. Remembered, since it is asked for every batch."""
        rule = self._decided.get(topic)
        if rule is None:
            if len(self._decided) >= REMEMBERED_TOPICS:
                self._decided.clear()
            rule = self._decided[topic] = self._decide(topic)
        return rule

    @property
    def any_plain(self) -> bool:
        """Whether any rule or preset makes a topic plain besides the internal ones (kafka.md, R10)."""
        return bool(self._preset_topics) or any(not rule.seal for _, rule in self._rules)

    @property
    def key_names(self) -> frozenset[str]:
        """Every key that a rule names, and the one that topics without a rule get."""
        rules = (self._default, *(rule for _, rule in self._rules if rule.seal))
        return frozenset(name for rule in rules for _, name in rule.accept_keys)

    def matched_by(self, topic: str) -> str:
        """What decided for `topic`, in words for people."""
        for place, (pattern, _) in enumerate(self._rules):
            if fnmatchcase(topic, pattern):
                return f"topics[{place}] {pattern}"
        if topic in self._preset_topics:
            return next(f"preset {preset}" for preset, names in PRESET_TOPICS.items() if topic in names)
        return "internal topic" if topic in INTERNAL_TOPICS else "no rule: sealed"

    def skips(self, topic: str, partition: int) -> tuple[range, ...]:
        """The offsets to be stepped over, by an operator's decision, in growing order."""
        return self._skips.get((topic, partition), ())

    def _decide(self, topic: str) -> Rule:
        for pattern, rule in self._rules:
            if fnmatchcase(topic, pattern):
                return rule
        plain = topic in INTERNAL_TOPICS or topic in self._preset_topics
        return self._plain if plain else self._default


def _compiled(rule: TopicRule, provider: int) -> Rule:
    return Rule(
        seal=rule.seal is not Seal.NONE,
        mode=rule.mode,
        key=rule.key,
        accept_keys=frozenset((provider, name) for name in (rule.key, *rule.accept_keys)),
        accept_plain=rule.accept_plain,
        stub_codec=rule.stub_codec,
        compress=rule.compress is Compress.ZSTD,
        compress_to_fit=rule.fit is Fit.COMPRESS,
        raise_message_limit=rule.raise_message_limit,
        hide_keys=rule.keys is RecordKeys.HIDDEN,
        create_time_only=rule.timestamps is Timestamps.CREATE,
        pass_headers=frozenset(name.encode() for name in rule.pass_headers),
        origin_partition=rule.origin_partition,
        sealed_as=rule.sealed_as.topic if rule.sealed_as else None,
        any_partition=rule.sealed_as is not None and rule.sealed_as.partition == "any",
        producers=None if rule.producers is None else frozenset(rule.producers),
        consumers=None if rule.consumers is None else frozenset(rule.consumers),
    )


def _by_partition(skips: tuple[Skip, ...]) -> Mapping[tuple[str, int], tuple[range, ...]]:
    found: dict[tuple[str, int], list[range]] = {}
    for skip in skips:
        found.setdefault((skip.topic, skip.partition), []).append(range(skip.first, skip.last + 1))
    return {place: tuple(sorted(ranges, key=lambda r: r.start)) for place, ranges in found.items()}
