"""Which topic gets what: the rules of the configuration, answered for a topic's name.

The first rule whose pattern matches decides. Where none does, a preset's names and Kafka's four internal
topics are plain, and every other topic is sealed with the defaults: a topic that was forgotten is protected.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final, NamedTuple

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.key_topic import KEY_TOPIC
from kveil.protocol.identity import CONTROL_TOPIC
from kveil.proxy.config import (
    TOPIC_PLACE,
    Compress,
    Erased,
    Fit,
    Gaps,
    KeyName,
    KeyPer,
    KeyService,
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
# The principal of the proxy's own connections. No client has it: it can't be seen, and names must be.
OWN_PRINCIPAL: Final = "\0kveil"
_ITSELF: Final = frozenset({OWN_PRINCIPAL})
# The ids that envelopes have of providers (FORMAT.md, section 8), by their names in the configuration.
PROVIDER_IDS: Final[Mapping[KeyService, int]] = MappingProxyType(
    {
        KeyService.KEYFILE: registry.KEY_FILE,
        KeyService.VAULT: registry.VAULT_TRANSIT,
        KeyService.AWS: registry.AWS_KMS,
        KeyService.GCP: registry.GOOGLE_KMS,
        KeyService.AZURE: registry.AZURE_KEY_VAULT,
        KeyService.PKCS11: registry.PKCS11,
        KeyService.IDENTITIES: registry.ANNOUNCED,
        KeyService.MODULE: registry.PRIVATE_USE,
    }
)
SERVICES: Final[Mapping[int, KeyService]] = MappingProxyType({number: name for name, number in PROVIDER_IDS.items()})
# Names come from clients and brokers, so the memory for answers is bounded. An entry takes about 500 bytes.
REMEMBERED_TOPICS: Final = 16_384


class KeyRef(NamedTuple):
    """A key-encryption key: its provider's number in envelopes, and its name."""

    provider: int
    name: str

    def __str__(self) -> str:
        return f"{SERVICES[self.provider]}:{self.name}"


class Use(StrEnum):
    """What a client does with a topic's records."""

    PRODUCE = "produce"
    CONSUME = "consume"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What holds for one topic."""

    seal: bool
    mode: Mode
    key: KeyRef
    # Every key that may have wrapped what is read, `key` among them.
    accept_keys: frozenset[KeyRef]
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
    # Record mode: whether each record key has an epoch key of its own, and whether records of an erased one are
    # delivered without their values.
    per_record_key: bool = False
    null_erased: bool = False
    # Whether envelopes name their partition, for readers of another one.
    origin_partition: bool = False
    # Identities: whether batches are signed, where the realm demands it.
    sign: bool = True
    # Whether any of its keys is announced, and whether consumers are refused what missing batches show at.
    announced: bool = False
    refuse_gaps: bool = False
    # The topic that the key derivation of read records names; None for the topic itself.
    sealed_as: str | None
    any_partition: bool = False
    # Who may; None for everybody, also for clients that nobody has asked who they are.
    producers: frozenset[str] | None = None
    consumers: frozenset[str] | None = None
    # Identities whose records are opened; None for all that were granted the topic.
    sealed_by: frozenset[str] | None = None
    # By partition: plain batches that end before this offset are read too. A mapping has no hash; rules are in needs.
    plain_before: Mapping[int, int] = field(default_factory=dict, hash=False)

    @property
    def is_sealed_announced(self) -> bool:
        """Whether what is sealed has a signature and a position."""
        return self.key.provider == registry.ANNOUNCED

    def admits(self, use: Use, principal: str | None) -> bool:
        """Whether a principal may use the topic so. None is a client that hasn't proved who it is."""
        named = self.producers if use is Use.PRODUCE else self.consumers
        return named is None or principal in named


class Policy:
    """The rules of one configuration. Immutable: a new configuration is a new policy."""

    def __init__(self, settings: Settings) -> None:
        self._keys = settings.keys
        self._rules = settings.topics
        self._default = TopicRule(match="*")
        self._preset_topics = frozenset[str]().union(*(PRESET_TOPICS[preset] for preset in settings.presets))
        self._skips = _by_partition(settings.skip)
        self._audit_topic = settings.audit.topic
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
        return bool(self._preset_topics) or any(rule.seal is Seal.NONE for rule in self._rules)

    @property
    def any_record_keys(self) -> bool:
        """Whether any rule gives record keys epoch keys of their own: the key topic is read then, and written."""
        return any(rule.key_per is KeyPer.RECORD_KEY for rule in self._rules)

    def is_for_record_keys(self, key: KeyRef) -> bool:
        """Whether a rule names the key for record keys. The configuration sees to it that no other rule does then."""
        rules = [rule for rule in self._rules if rule.key_per is KeyPer.RECORD_KEY]
        names = [name for rule in rules for name in (rule.key or self._keys.default, *rule.accept_keys)]
        return any(
            PROVIDER_IDS[name.provider or self._keys.service] == key.provider and name.may_be(key.name)
            for name in names
        )

    @property
    def named_keys(self) -> frozenset[KeyRef]:
        """Every key that is named for all topics of a rule alike: the default one too, if a topic can get it."""
        rules = [rule for rule in self._rules if rule.seal is not Seal.NONE]
        if all(rule.match != "*" for rule in self._rules):
            rules.append(self._default)
        names = [name for rule in rules for name in (rule.key or self._keys.default, *rule.accept_keys)]
        return frozenset(self._key(name) for name in names if not name.is_template)

    @property
    def sealing_keys(self) -> frozenset[KeyRef]:
        """Those of the named keys that seal."""
        rules = [rule for rule in self._rules if rule.seal is not Seal.NONE]
        names = [rule.key or self._keys.default for rule in (*rules, self._default)]
        return frozenset(self._key(name) for name in names if not name.is_template) & self.named_keys

    @property
    def services(self) -> frozenset[KeyService]:
        """Every provider of which a rule names a key, and the one that is meant where none is named."""
        names = [self._keys.default, *(name for rule in self._rules for name in (rule.key, *rule.accept_keys) if name)]
        return frozenset({self._keys.service, *(name.provider for name in names if name.provider)})

    @property
    def any_identities(self) -> bool:
        """Whether any rule names keys of identities: the control topic is read then, and written."""
        return KeyService.IDENTITIES in self.services

    def matched_by(self, topic: str) -> str:
        """What decided for `topic`, in words for people."""
        if topic == KEY_TOPIC and self.any_record_keys:
            return "the key topic: for the proxy alone"
        if topic == CONTROL_TOPIC and self.any_identities:
            return "the control topic: for the proxy alone"
        for place, rule in enumerate(self._rules):
            if fnmatchcase(topic, rule.match):
                return f"topics[{place}] {rule.match}"
        if topic in self._preset_topics:
            return next(f"preset {preset}" for preset, names in PRESET_TOPICS.items() if topic in names)
        return "internal topic" if topic in INTERNAL_TOPICS else "no rule: sealed"

    def skips(self, topic: str, partition: int) -> tuple[range, ...]:
        """The offsets to be stepped over, by an operator's decision, in growing order."""
        return self._skips.get((topic, partition), ())

    def _decide(self, topic: str) -> Rule:
        rule = self._configured(topic)
        if topic == self._audit_topic:  # by the way of the proxy nobody else is to write what it has decided
            return replace(rule, producers=_ITSELF)
        return rule

    def _configured(self, topic: str) -> Rule:
        if (topic == KEY_TOPIC and self.any_record_keys) or (topic == CONTROL_TOPIC and self.any_identities):
            own = self._compiled(TopicRule(match="*", seal=Seal.NONE), topic)
            return replace(own, producers=_ITSELF, consumers=_ITSELF)
        for rule in self._rules:
            if fnmatchcase(topic, rule.match):
                return self._compiled(rule, topic)
        plain = topic in INTERNAL_TOPICS or topic in self._preset_topics
        return self._compiled(TopicRule(match="*", seal=Seal.NONE) if plain else self._default, topic)

    def _key(self, name: KeyName, topic: str = "") -> KeyRef:
        return KeyRef(PROVIDER_IDS[name.provider or self._keys.service], name.name.replace(TOPIC_PLACE, topic))

    def _compiled(self, rule: TopicRule, topic: str) -> Rule:
        origin = rule.sealed_as.topic if rule.sealed_as else topic
        key = self._key(rule.key or self._keys.default, origin)
        return _compiled(rule, key, frozenset({key, *(self._key(name, origin) for name in rule.accept_keys)}))


def _compiled(rule: TopicRule, key: KeyRef, accept_keys: frozenset[KeyRef]) -> Rule:
    return Rule(
        seal=rule.seal is not Seal.NONE,
        mode=rule.mode,
        key=key,
        accept_keys=accept_keys,
        accept_plain=rule.accept_plain,
        plain_before=MappingProxyType(rule.plain_before),
        stub_codec=rule.stub_codec,
        compress=rule.compress is Compress.ZSTD,
        compress_to_fit=rule.fit is Fit.COMPRESS,
        raise_message_limit=rule.raise_message_limit,
        hide_keys=rule.keys is RecordKeys.HIDDEN,
        per_record_key=rule.key_per is KeyPer.RECORD_KEY,
        null_erased=rule.erased is Erased.NULL,
        create_time_only=rule.timestamps is Timestamps.CREATE,
        pass_headers=frozenset(name.encode() for name in rule.pass_headers),
        origin_partition=rule.origin_partition,
        sign=rule.sign,
        announced=any(one.provider == registry.ANNOUNCED for one in accept_keys),
        refuse_gaps=rule.gaps is Gaps.REFUSE,
        sealed_as=rule.sealed_as.topic if rule.sealed_as else None,
        any_partition=rule.sealed_as is not None and rule.sealed_as.partition == "any",
        producers=None if rule.producers is None else frozenset(rule.producers),
        consumers=None if rule.consumers is None else frozenset(rule.consumers),
        sealed_by=None if rule.sealed_by is None else frozenset(rule.sealed_by),
    )


def _by_partition(skips: tuple[Skip, ...]) -> Mapping[tuple[str, int], tuple[range, ...]]:
    found: dict[tuple[str, int], list[range]] = {}
    for skip in skips:
        found.setdefault((skip.topic, skip.partition), []).append(range(skip.first, skip.last + 1))
    return {place: tuple(sorted(ranges, key=lambda r: r.start)) for place, ranges in found.items()}
