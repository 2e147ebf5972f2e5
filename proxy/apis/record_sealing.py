"""Whether the record keys of what is produced have epoch keys of their own, where the topic's rule says so."""

from collections.abc import Iterable, Mapping

from kveil.protocol.envelope.key_schedule import EpochKey
from kveil.protocol.envelope.record_keyed import record_keys
from kveil.protocol.kafka.errors import BatchRefused
from kveil.protocol.kafka.record_batch import check_produced
from kveil.proxy.apis.sealing import Sealing
from kveil.proxy.context import Shared
from kveil.proxy.errors import ErrorCode, Refused
from kveil.proxy.keys.errors import KeyDenied, KeysFull
from kveil.proxy.needs import Need, RecordKeysNeed


def find_record_keys(
    sealing: Sealing, batches: Iterable[memoryview], shared: Shared, failures: Mapping[Need, Exception]
) -> Sealing | Refused | Need:
    """Return how these batches of a topic are sealed, why they can't be, or the record keys that need epoch keys.

    `sealing` holds the lease of the key-encryption key, and so ends all sealing with it.
    """
    keys = shared.record_keys
    topic, rule = sealing.topic, sealing.rule
    if keys is None:
        raise AssertionError("a rule has key_per: record_key, and nobody keeps such keys")
    found: dict[bytes | None, EpochKey] = {}
    missing = set()
    try:
        for record_key in _record_keys(batches):
            record_id = keys.record_id(topic, record_key)
            key = keys.sealing_key(topic, rule, record_id)
            if key is None:
                missing.add(record_id)
            else:
                found[record_key] = key
    except KeyDenied as error:
        return _no_keys(error)
    if not missing:
        return sealing._replace(key_of=found.__getitem__)
    for need, failure in failures.items():
        if isinstance(need, RecordKeysNeed) and need.topic == topic:
            return _no_keys(failure)
    return RecordKeysNeed(topic, rule, frozenset(missing))


def _record_keys(batches: Iterable[memoryview]) -> set[bytes | None]:
    """The distinct keys of all records. What isn't a batch has none: it is refused when it is to be sealed."""
    found: set[bytes | None] = set()
    for batch in batches:
        try:
            found |= record_keys(batch, check_produced(batch))
        except BatchRefused:
            continue
    return found


def _no_keys(failure: Exception) -> Refused:
    match failure:
        case KeyDenied():
            return Refused(ErrorCode.TOPIC_AUTHORIZATION_FAILED, "the key of the topic's rule may not be used")
        case KeysFull():
            return Refused(ErrorCode.POLICY_VIOLATION, str(failure))
        case _:
            return Refused(ErrorCode.NOT_ENOUGH_REPLICAS, "no keys can be had for the record keys now")
