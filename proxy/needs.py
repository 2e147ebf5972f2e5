"""What the rewriting of a frame may have to wait for. Values: the shell decides how to get them."""

from dataclasses import dataclass

from kveil.protocol.envelope.header import KeyBlock
from kveil.proxy.policy import Rule


@dataclass(frozen=True, slots=True)
class TopicSettingsNeed:
    """The settings of a topic."""

    topic: str


@dataclass(frozen=True, slots=True)
class TopicNameNeed:
    """The name that a topic id stands for."""

    topic_id: bytes


@dataclass(frozen=True, slots=True)
class MessageLimitNeed:
    """A `max.message.bytes` of the topic that leaves room for sealing."""

    topic: str
    max_message_bytes: int


@dataclass(frozen=True, slots=True)
class SealingKeyNeed:
    """An epoch key to seal a topic with."""

    topic: str
    rule: Rule


@dataclass(frozen=True, slots=True)
class OpeningKeyNeed:
    """The epoch key that an envelope names. `topic` is the one it was sealed for."""

    topic: str
    kid: bytes
    block: KeyBlock
    rule: Rule


Need = TopicSettingsNeed | TopicNameNeed | MessageLimitNeed | SealingKeyNeed | OpeningKeyNeed
