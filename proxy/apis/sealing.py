"""One partition of a Produce request: whether its batch may be sealed, and the sealed batch."""

from kveil.protocol.envelope.batch import StubCodec, seal
from kveil.protocol.kafka.errors import BatchRefused, BatchTooLarge
from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.record_batch import check_produced
from kveil.proxy.config import Mode
from kveil.proxy.config import StubCodec as StubCodecChoice
from kveil.proxy.context import Connection
from kveil.proxy.errors import ErrorCode, QuestionFailed, Refused
from kveil.proxy.keys.errors import KeyRefused, KeyUnavailable
from kveil.proxy.needs import Need, SealingKeyNeed, TopicSettingsNeed
from kveil.proxy.policy import Rule
from kveil.proxy.topics import TopicSettings

ZSTD_MIN_PRODUCE_VERSION = 7
"""Before it brokers refuse zstd (KIP-110)."""


def sealing_needs(topic: str, rule: Rule, connection: Connection, failures: dict[Need, Exception]) -> list[Need]:
    """Return what must be there before batches of the topic can be sealed."""
    shared = connection.shared
    if rule.mode is Mode.AUTO:
        settings = shared.topic_settings.find(topic, shared.now())
        if settings is None:
            need = TopicSettingsNeed(topic)
            return [] if need in failures else [need]
        if _refusal(topic, settings):
            return []
    if shared.keys.sealing_key(topic, rule, shared.now()) is None:
        key_need = SealingKeyNeed(topic, rule)
        return [] if key_need in failures else [key_need]
    return []


def seal_batch(
    batch: memoryview,
    *,
    topic: str,
    partition: int,
    rule: Rule,
    produce_version: int,
    connection: Connection,
    failures: dict[Need, Exception],
) -> list[Buffer]:
    """Return the sealed batch. `batch` is used up.

    :raises Refused: it can't be sealed, and nothing of it may leave.
    """
    try:
        header = check_produced(batch)
    except BatchRefused as error:
        raise Refused(ErrorCode(error.code), f"the batch is refused: {error}") from error
    if rule.mode is Mode.AUTO:
        _check_settings(topic, connection, failures)
    key = connection.shared.keys.sealing_key(topic, rule, connection.shared.now())
    if key is None:
        raise _no_key(failures.get(SealingKeyNeed(topic, rule)))
    connection.shared.keys.note_use(key, len(batch))
    try:
        return seal(batch, header, key=key, partition=partition, stub_codec=_stub_codec(rule, produce_version))
    except BatchTooLarge as error:
        raise Refused(ErrorCode.MESSAGE_TOO_LARGE, f"the batch is refused: {error}") from error


def _stub_codec(rule: Rule, produce_version: int) -> StubCodec:
    if rule.stub_codec is StubCodecChoice.NONE or produce_version < ZSTD_MIN_PRODUCE_VERSION:
        return StubCodec.NONE
    return StubCodec.AUTO


def _check_settings(topic: str, connection: Connection, failures: dict[Need, Exception]) -> None:
    settings = connection.shared.topic_settings.find(topic, connection.shared.now())
    if settings is None:
        failure = failures.get(TopicSettingsNeed(topic), QuestionFailed("they were not read in time"))
        if isinstance(failure, Refused):
            raise failure
        raise Refused(ErrorCode.NOT_ENOUGH_REPLICAS, f"the settings of the topic can't be read now: {failure}")
    refusal = _refusal(topic, settings)
    if refusal:
        raise refusal


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


def _no_key(failure: Exception | None) -> Refused:
    match failure:
        case KeyRefused():
            return Refused(ErrorCode.TOPIC_AUTHORIZATION_FAILED, "the key of the topic's rule may not be used")
        case KeyUnavailable() | None:
            return Refused(ErrorCode.NOT_ENOUGH_REPLICAS, "no key can be had to seal with now")
        case _:
            return Refused(ErrorCode.NOT_ENOUGH_REPLICAS, "no key could be made to seal with")
