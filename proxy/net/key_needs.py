"""Getting the keys that are needed: from the ring, or from whoever has the record keys' keys."""

from kveil.proxy.context import Shared
from kveil.proxy.needs import HidingKeyNeed, KeyNeed, OpeningKeyNeed, RecordKeysNeed, SealingKeyNeed


async def meet_key_need(shared: Shared, need: KeyNeed) -> None:
    """See to it that the key is at hand.

    :raises KeyRefused, KeyDenied, KeysFull, KeyUnavailable: it can't be had.
    """
    match need:
        case SealingKeyNeed():
            await shared.sealing_keys(need.rule.key.provider).renew(need.topic, need.rule)
        case HidingKeyNeed():
            await shared.keys.unwrap_hiding_key()
        case OpeningKeyNeed():
            keys = shared.keys_for(need.block.provider)
            await keys.unwrap(need.topic, need.partition, need.kid, need.block, need.rule)
        case RecordKeysNeed() if shared.record_keys is not None:
            await shared.record_keys.prepare(need.topic, need.rule, need.record_ids)
