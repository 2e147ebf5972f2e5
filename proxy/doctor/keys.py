"""Whether each key that the rules name can be used as the proxy uses it, and what hides records' keys."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from kveil.protocol.envelope.header import KID_LENGTH
from kveil.protocol.envelope.key_schedule import new_epoch_key_secret
from kveil.proxy.config import Direction, KeyService, Settings
from kveil.proxy.doctor.findings import Finding, failure, ok, warning
from kveil.proxy.keys.calls import KeyCalls
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeySetupError, KeyUnavailable
from kveil.proxy.keys.hiding import NOT_MADE, unwrap_hiding_key
from kveil.proxy.keys.keyfile import WrappedHidingKey
from kveil.proxy.keys.opening import key_calls, open_setup
from kveil.proxy.keys.provider import KeyContext
from kveil.proxy.keys.realm import Realm
from kveil.proxy.policy import KeyRef, Policy

CHECK: Final = "keys"
_CONTEXT_TOPIC: Final = ""
"""What belongs to no topic."""


async def look_at_keys(settings: Settings, policy: Policy, topics: Iterable[str]) -> list[Finding]:
    """Try every key that all topics of a rule share, and those of the topics named."""
    try:
        realm, providers = open_setup(settings, policy)
    except KeySetupError as error:
        return [failure(CHECK, line, "docs/keys.md tells how keys are made") for line in str(error).splitlines()]
    rules = [rule for rule in map(policy.rule_for, topics) if rule.seal]
    sealing = policy.sealing_keys | {rule.key for rule in rules}
    wanted = sorted(policy.named_keys | {key for rule in rules for key in rule.accept_keys})
    uses = _uses(settings)
    async with key_calls(providers, settings.keys) as calls:
        tried = [_try_key(calls[key.provider], key, realm, uses if key in sealing else ()) for key in wanted]
        found = [*await asyncio.gather(*tried), await _look_at_hiding_key(calls, realm)]
    return [*found, *_look_at_times(settings, policy)]


def _uses(settings: Settings) -> tuple[str, ...]:
    """What this proxy does with a key that seals: one that only takes what is produced may lack the right to open."""
    directions = {listener.direction for listener in settings.listeners}
    if directions == {Direction.CONSUME}:
        return ()
    return ("wrap",) if directions == {Direction.PRODUCE} else ("wrap", "unwrap")


async def _try_key(calls: KeyCalls, key: KeyRef, realm: Realm, uses: Sequence[str]) -> Finding:
    remedy = f"see whether {calls.provider.place} has the key and lets this proxy use it; docs/keys.md names the rights"
    try:
        return ok(CHECK, f"{key} {await _use(calls, key, realm, uses)}")
    except KeyRefused:
        return failure(CHECK, f"{key} doesn't unwrap what it wrapped a moment before", remedy)
    except (KeyDenied, KeyUnavailable) as error:
        return failure(CHECK, f"the key {key} can't be used: {error}", remedy)


async def _use(calls: KeyCalls, key: KeyRef, realm: Realm, uses: Sequence[str]) -> str:
    if "wrap" not in uses:
        described = await calls.describe(key.name)
        return f"is there, in {len(described.versions)} versions"
    secret = new_epoch_key_secret()
    context = KeyContext(realm.name, _CONTEXT_TOPIC, bytes(KID_LENGTH))
    block = await calls.wrap(key.name, secret, context)
    if "unwrap" not in uses:
        return "wraps"
    if await calls.unwrap(block, context) != secret:
        raise KeyRefused
    return "wraps and unwraps"


async def _look_at_hiding_key(calls: Mapping[int, KeyCalls], realm: Realm) -> Finding:
    wrapped = realm.hiding_key
    if wrapped is None and realm.has_authority:
        return ok(CHECK, f"the key-hiding key of realm {realm.name} is handed out by its authority")
    if wrapped is None:
        return warning(CHECK, f"compacted topics can't be sealed: {NOT_MADE}", "kveil keys init, or keys: clear")
    if not isinstance(wrapped, WrappedHidingKey):
        return ok(CHECK, f"the key-hiding key of realm {realm.name} is in the key file")
    try:
        await unwrap_hiding_key(calls[wrapped.block.provider], wrapped, realm.name)
    except (KeyDenied, KeyUnavailable) as error:
        remedy = "restore the key file and the key that wrapped it; never make a new one while there is data"
        return failure(CHECK, f"the key-hiding key can't be had: {error}", remedy)
    return ok(CHECK, f"the key-hiding key of realm {realm.name} unwraps")


def _look_at_times(settings: Settings, policy: Policy) -> list[Finding]:
    """How long the proxy goes on without whoever keeps the keys."""
    keys = settings.keys
    if policy.services == {KeyService.KEYFILE}:
        return []
    if not keys.unwrap_cache_seconds:
        text = "keys.unwrap_cache_seconds is 0: every use of a key asks its service, and an outage stops all reading"
        return [warning(CHECK, text, "give it the seconds that an outage may last")]
    text = f"without the key service sealing goes on for {keys.seal_lease_seconds:g} s at most, opening for"
    return [ok(CHECK, f"{text} {keys.unwrap_cache_seconds:g} s of what is known")]
