"""Whether and how a topic's batches are sealed."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final, NamedTuple

from kveil.protocol.envelope.key_schedule import EpochKey, KeyHidingKey
from kveil.proxy.config import Mode
from kveil.proxy.context import Connection
from kveil.proxy.errors import ErrorCode, Refused
from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable
from kveil.proxy.keys.hiding import NOT_MADE
from kveil.proxy.needs import HidingKeyNeed, MessageLimitNeed, Need, SealingKeyNeed, TopicSettingsNeed
from kveil.proxy.policy import Rule
from kveil.proxy.topics import TopicSettings

LARGEST_LIMIT: Final = 2**31 - 1
"""Of `max.message.bytes`."""


class Sealing(NamedTuple):
    """How a topic's batches are sealed.

    Looked up once for a request: settings and keys live for a limited time, which may end between two looks.
    """

    topic: str
    rule: Rule
    mode: Mode
    """BATCH or RECORD."""
    key: EpochKey
    hiding: KeyHidingKey | None
    """What hides records' keys in record mode, None where they stay in sight."""
    settings: TopicSettings | None
    """None where they can't be had now, and the rule pins the mode: limits are left to the broker."""
    key_of: Callable[[bytes | None], EpochKey] | None = None
    """The epoch key of a record key, where each has its own; `key` is there for its lease alone then."""


def sealing_mode(chosen: Mode, settings: TopicSettings | None) -> Mode:
    """Return how a topic is sealed, BATCH or RECORD, by the mode that its rule chooses and its settings.

    Record mode is right everywhere, so also where nothing is known.
    """
    if chosen is not Mode.AUTO:
        return chosen
    return Mode.RECORD if settings is None or settings.unreadable or settings.is_compacted else Mode.BATCH


def find_sealing(
    topic: str, rule: Rule, connection: Connection, failures: Mapping[Need, Exception]
) -> Sealing | Refused | Need:
    """Return how batches of the topic are sealed, why they can't be, or what must be there first."""
    shared = connection.shared
    now = shared.now()
    settings = shared.topic_settings.find(topic, now)
    if settings is None:
        need = TopicSettingsNeed(topic)
        if need not in failures:
            return need
        if rule.mode is Mode.AUTO:
            return _unread(topic, failures[need])
    mode = sealing_mode(rule.mode, settings)
    key = shared.sealing_keys(rule.key.provider).sealing_key(topic, rule, now)
    if key is None:
        key_need = SealingKeyNeed(topic, rule)
        return _no_key(failures[key_need]) if key_need in failures else key_need
    hiding = None
    if mode is Mode.RECORD and (rule.hide_keys or rule.per_record_key):
        hiding = shared.keys.hiding_key(topic, seals=True)
        if hiding is None:  # never sealed without: the keys would be in sight
            if shared.keys.hiding_key_id is None and not shared.keys.awaits_hiding_key:
                return Refused(ErrorCode.TOPIC_AUTHORIZATION_FAILED, NOT_MADE)
            hiding_need = HidingKeyNeed(topic)
            return _no_key(failures[hiding_need]) if hiding_need in failures else hiding_need
    return Sealing(topic, rule, mode, key, hiding if rule.hide_keys else None, settings)


def limit_with_room(batch_bytes: int, mode: Mode, *, is_announced: bool = False) -> int:
    """Return the `max.message.bytes` that takes any batch of so many bytes once it is sealed in a mode.

    BATCH: an eighth covers the stubs of records of a few bytes, which shrink to one byte each; 4 KiB the envelope.
    RECORD: each record has an envelope of its own. Four times covers those of 60 bytes and more. With an announced key
    it has a signature and a position, too: 32 times covers records of 10 bytes and more, and some skipped ranges.
    """
    if mode is Mode.RECORD:
        return min((32 if is_announced else 4) * batch_bytes, LARGEST_LIMIT)
    return batch_bytes + batch_bytes // 8 + 4096


def find_limit_need(sealing: Sealing, sizes: Iterable[int]) -> MessageLimitNeed | None:
    """Return the need of a higher limit, where the rule asks for it and batches of these sizes may not fit sealed."""
    settings = sealing.settings
    if not sealing.rule.raise_message_limit or settings is None or settings.is_limit_refused:
        return None
    limit = settings.max_message_bytes
    room = partial(limit_with_room, mode=sealing.mode, is_announced=sealing.rule.is_sealed_announced)
    if limit is None or not any(size <= limit < room(size) for size in sizes):
        return None
    return MessageLimitNeed(sealing.topic, room(limit))


def _unread(topic: str, failure: Exception) -> Refused:
    if isinstance(failure, Refused):
        return failure
    return Refused(ErrorCode.NOT_ENOUGH_REPLICAS, f"the settings of the topic {topic} can't be read now: {failure}")


def _no_key(failure: Exception) -> Refused:
    match failure:
        case KeyDenied():
            return Refused(ErrorCode.TOPIC_AUTHORIZATION_FAILED, "the key of the topic's rule may not be used")
        case KeyUnavailable():
            return Refused(ErrorCode.NOT_ENOUGH_REPLICAS, "no key can be had to seal with now")
        case _:
            return Refused(ErrorCode.NOT_ENOUGH_REPLICAS, "no key could be made to seal with")
