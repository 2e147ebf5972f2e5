"""Whether and how a topic's batches are sealed, and one partition's sealed batch."""

from collections.abc import Mapping
from typing import NamedTuple

from kveil.protocol.envelope.batch import StubCodec, seal
from kveil.protocol.envelope.key_schedule import EpochKey
from kveil.protocol.kafka.errors import BatchRefused, BatchTooLarge
from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.record_batch import check_produced
from kveil.proxy.config import Mode
from kveil.proxy.config import StubCodec as StubCodecChoice
from kveil.proxy.context import Connection
from kveil.proxy.errors import ErrorCode, Refused
from kveil.proxy.keys.errors import KeyRefused, KeyUnavailable
from kveil.proxy.needs import Need, SealingKeyNeed, TopicSettingsNeed
from kveil.proxy.policy import Rule
from kveil.proxy.topics import TopicSettings

ZSTD_MIN_PRODUCE_VERSION = 7
"""Before it brokers refuse zstd (KIP-110)."""


class Sealing(NamedTuple):
    """How a topic's batches are sealed.

    Looked up once for a request: settings and keys live for a limited time, which may end between two looks.
    """

    topic: str
    rule: Rule
    key: EpochKey


def find_sealing(
    topic: str, rule: Rule, connection: Connection, failures: Mapping[Need, Exception]
) -> Sealing | Refused | Need:
    """Return how batches of the topic are sealed, why they can't be, or what must be there first."""
    shared = connection.shared
    now = shared.now()
    if rule.mode is Mode.AUTO:
        settings = shared.topic_settings.find(topic, now)
        if settings is None:
            need = TopicSettingsNeed(topic)
            return _unread(topic, failures[need]) if need in failures else need
        refusal = _refusal(topic, settings)
        if refusal:
            return refusal
    key = shared.keys.sealing_key(topic, rule, now)
    if key is None:
        key_need = SealingKeyNeed(topic, rule)
        return _no_key(failures[key_need]) if key_need in failures else key_need
    return Sealing(topic, rule, key)


def seal_batch(
    batch: memoryview, sealing: Sealing, *, partition: int, produce_version: int, connection: Connection
) -> list[Buffer]:
    """Return the sealed batch. `batch` is used up.

    :raises Refused: it can't be sealed, and nothing of it may leave.
    """
    try:
        header = check_produced(batch)
    except BatchRefused as error:
        raise Refused(ErrorCode(error.code), f"the batch is refused: {error}") from error
    connection.shared.keys.note_use(sealing.key, len(batch))
    stub_codec = _stub_codec(sealing.rule, produce_version)
    try:
        return seal(batch, header, key=sealing.key, partition=partition, stub_codec=stub_codec)
    except BatchTooLarge as error:
        raise Refused(ErrorCode.MESSAGE_TOO_LARGE, f"the batch is refused: {error}") from error


def _stub_codec(rule: Rule, produce_version: int) -> StubCodec:
    if rule.stub_codec is StubCodecChoice.NONE or produce_version < ZSTD_MIN_PRODUCE_VERSION:
        return StubCodec.NONE
    return StubCodec.AUTO


def _unread(topic: str, failure: Exception) -> Refused:
    if isinstance(failure, Refused):
        return failure
    return Refused(ErrorCode.NOT_ENOUGH_REPLICAS, f"the settings of the topic {topic} can't be read now: {failure}")


def _refusal(topic: str, settings: TopicSettings) -> Refused | None:
    """Return why a topic with these settings can't be sealed in batch mode."""
    if settings.unreadable:
        return Refused(
            ErrorCode.POLICY_VIOLATION,
            f"the settings of topic {topic} can't be read ({settings.unreadable}), and a compacted topic must not be "
            "sealed in batches: grant DESCRIBE_CONFIGS on the topic, or set `mode: batch` in its rule if it is not "
            "compacted",
        )
    if settings.is_compacted:
        return Refused(
            ErrorCode.POLICY_VIOLATION,
            f"topic {topic} has compact in its cleanup.policy, and this version seals in batches only, which "
            "compaction would lose: use a topic with cleanup.policy=delete, or leave it plain on purpose with "
            "`seal: none`",
        )
    return None


def _no_key(failure: Exception) -> Refused:
    match failure:
        case KeyRefused():
            return Refused(ErrorCode.TOPIC_AUTHORIZATION_FAILED, "the key of the topic's rule may not be used")
        case KeyUnavailable():
            return Refused(ErrorCode.NOT_ENOUGH_REPLICAS, "no key can be had to seal with now")
        case _:
            return Refused(ErrorCode.NOT_ENOUGH_REPLICAS, "no key could be made to seal with")
