"""From the settings to a key ring, or to every reason why not."""

import asyncio
import importlib
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from kveil.protocol.envelope.header import KID_LENGTH
from kveil.protocol.envelope.key_schedule import EPOCH_KEY_LENGTH
from kveil.protocol.envelope.key_topic import KeyTopicCodec
from kveil.proxy.admin.metrics import Metrics
from kveil.proxy.config import Direction, KeyPer, Keys, KeyService, Mode, Seal, Settings, choices
from kveil.proxy.keys.calls import KeyCalls
from kveil.proxy.keys.errors import KeyDenied, KeySetupError, KeyUnavailable
from kveil.proxy.keys.hiding import NOT_MADE, unwrap_hiding_key
from kveil.proxy.keys.keyfile import WrappedHidingKey
from kveil.proxy.keys.provider import KeyContext, KeyDescription, KeyProvider
from kveil.proxy.keys.providers.keyfile import KeyFileProvider
from kveil.proxy.keys.realm import Realm, open_realm
from kveil.proxy.keys.record_keys import RecordKeys
from kveil.proxy.keys.ring import KeyRing
from kveil.proxy.log import get_logger
from kveil.proxy.policy import PROVIDER_IDS, KeyRef, Policy

if TYPE_CHECKING:
    from kveil.proxy.keys.announced import AnnouncedKeys

_log = get_logger(__name__)

# The classes of the modules that are imported only where they are used: some need an extra.
_CLASSES: Final[Mapping[KeyService, str]] = {
    KeyService.VAULT: "VaultProvider",
    KeyService.AWS: "AwsProvider",
    KeyService.GCP: "GcpProvider",
    KeyService.AZURE: "AzureProvider",
    KeyService.PKCS11: "Pkcs11Provider",
}


def open_key_ring(settings: Settings, policy: Policy, metrics: Metrics) -> KeyRing:
    """The key ring of this process. Call it after the last fork. Raises KeySetupError."""
    realm, providers = open_setup(settings, policy)
    if not settings.keys.unwrap_cache_seconds:
        _log.warning("keys_asked_for_at_each_use", why="keys.unwrap_cache_seconds is 0, so an outage stops all reading")
    return KeyRing(providers, realm, settings.keys, settings.limits, metrics=metrics)


def open_record_keys(settings: Settings, policy: Policy, keys: KeyRing) -> RecordKeys | None:
    """The epoch keys of record keys, None where no rule asks for any. Raises KeySetupError."""
    if not policy.any_record_keys:
        return None
    return RecordKeys(keys, KeyTopicCodec(keys.hiding_secret, realm=keys.realm), settings.limits)


def open_announced_keys(settings: Settings, policy: Policy) -> "AnnouncedKeys | None":
    """The epoch keys of identities, None where no rule names any. Raises KeySetupError."""
    if not policy.any_identities:
        return None
    from kveil.proxy.identity.control import Control
    from kveil.proxy.identity.node import open_node
    from kveil.proxy.keys.announced import AnnouncedKeys

    control = Control(open_node(settings.identity), clock=time.monotonic, unix_time=time.time)
    return AnnouncedKeys(control, settings.limits, is_alone=settings.workers == 1)


def check_keys(settings: Settings, policy: Policy) -> Realm:
    """The realm, if every key that the rules name can be used. With `keys.lazy` none is asked for.

    :raises KeySetupError: some can't, with all reasons.
    """
    realm, providers = open_setup(settings, policy)
    if policy.any_identities:
        from kveil.proxy.identity.node import open_node

        open_node(settings.identity)
    if not settings.keys.lazy:
        asyncio.run(_check(settings, policy, realm, providers))
    return realm


def open_setup(settings: Settings, policy: Policy) -> tuple[Realm, Mapping[int, KeyProvider]]:
    """The realm and the providers, if they fit the rules. No key is asked for. Raises KeySetupError."""
    realm = open_realm(settings, policy)
    providers = open_providers(settings, policy)
    check_realm(settings, realm, providers)
    return realm, providers


def open_provider(service: KeyService, keys: Keys) -> KeyProvider:
    """One provider. Raises KeySetupError."""
    if service is KeyService.KEYFILE:
        return KeyFileProvider(keys.path)
    if service is KeyService.MODULE:
        return _open_class(keys)
    try:
        module = importlib.import_module(f"kveil.proxy.keys.providers.{service}")
    except ImportError as error:
        msg = f"keys.provider {service} needs {error.name}, which isn't installed: pip install 'kveil[{service}]'"
        raise KeySetupError(msg) from None
    provider: KeyProvider = getattr(module, _CLASSES[service])(getattr(keys, service))
    return provider


def open_providers(settings: Settings, policy: Policy) -> Mapping[int, KeyProvider]:
    """Every provider of which a rule names a key, by their numbers in envelopes. Raises KeySetupError."""
    services = policy.services - {KeyService.IDENTITIES}  # which have nobody to ask
    return {PROVIDER_IDS[service]: open_provider(service, settings.keys) for service in sorted(services)}


@asynccontextmanager
async def key_calls(providers: Mapping[int, KeyProvider], keys: Keys) -> AsyncIterator[Mapping[int, KeyCalls]]:
    """Calls to the providers for the length of a block: for commands, and for checks before the start."""
    metrics = Metrics()
    try:
        yield {number: KeyCalls(provider, keys.call_timeout_seconds, metrics) for number, provider in providers.items()}
    finally:
        await asyncio.gather(*(provider.close() for provider in providers.values()))


async def describe_keys(calls: Mapping[int, KeyCalls], keys: Iterable[KeyRef]) -> dict[KeyRef, KeyDescription | str]:
    """Each key's versions, or why they can't be told. Those of identities have none to tell of, and are left out."""

    async def describe(key: KeyRef) -> KeyDescription | str:
        try:
            return await calls[key.provider].describe(key.name)
        except (KeyDenied, KeyUnavailable) as error:
            return str(error)

    wanted = sorted(key for key in set(keys) if key.provider in calls)
    return dict(zip(wanted, await asyncio.gather(*map(describe, wanted)), strict=True))


def check_realm(settings: Settings, realm: Realm, providers: Collection[int]) -> None:
    """Raises KeySetupError if record mode can't hide keys as the rules say. `providers` are those that a rule names."""
    hiding = realm.hiding_key
    if isinstance(hiding, WrappedHidingKey) and hiding.block.provider not in providers:
        key = KeyRef(hiding.block.provider, hiding.block.name)
        msg = f"the key-hiding key in {settings.keys.path} was wrapped by {key}, and neither keys nor a rule names that"
        raise KeySetupError(msg)
    is_missing = hiding is None and not realm.has_authority
    for place, rule in enumerate(settings.topics if is_missing else ()):
        hides = rule.keys is choices.RecordKeys.HIDDEN or rule.key_per is KeyPer.RECORD_KEY
        if rule.seal is not Seal.NONE and rule.mode is Mode.RECORD and hides:
            msg = f"topics[{place}].mode: {NOT_MADE}"
            raise KeySetupError(msg)


def _open_class(keys: Keys) -> KeyProvider:
    """The class that `keys.provider` names, made with `keys.options`."""
    module_name, _, class_name = keys.provider.partition(":")
    try:
        made = getattr(importlib.import_module(module_name), class_name)(**keys.options)
    except (ImportError, AttributeError, TypeError) as error:
        msg = f"keys.provider {keys.provider} can't be loaded with these keys.options: {error}"
        raise KeySetupError(msg) from None
    number = PROVIDER_IDS[KeyService.MODULE]
    if getattr(made, "id", None) != number:
        msg = f"keys.provider {keys.provider}: its id must be {number}, the number of providers of one's own"
        raise KeySetupError(msg)
    provider: KeyProvider = made
    return provider


async def _check(settings: Settings, policy: Policy, realm: Realm, providers: Mapping[int, KeyProvider]) -> None:
    seals = any(listener.direction is not Direction.CONSUME for listener in settings.listeners)
    names = sorted(policy.named_keys)
    async with key_calls(providers, settings.keys) as calls:
        found = await asyncio.gather(
            *(_check_key(calls[key.provider], key, realm, seals and key in policy.sealing_keys) for key in names),
            _check_hiding_key(calls, realm),
        )
    problems = [problem for problem in found if problem is not None]
    if problems:
        raise KeySetupError("\n".join(problems))


async def _check_hiding_key(calls: Mapping[int, KeyCalls], realm: Realm) -> str | None:
    """Why the key-hiding key can't be had, None if it can."""
    wrapped = realm.hiding_key
    if isinstance(wrapped, WrappedHidingKey):
        try:
            await unwrap_hiding_key(calls[wrapped.block.provider], wrapped, realm.name)
        except (KeyDenied, KeyUnavailable) as error:
            return f"the key-hiding key can't be had: {error}"
    return None


async def _check_key(calls: KeyCalls, key: KeyRef, realm: Realm, seals: bool) -> str | None:
    """Why the key can't be used, None if it can: wrapped with if the process seals with it, else looked at."""
    try:
        if seals:
            await calls.wrap(key.name, bytes(EPOCH_KEY_LENGTH), KeyContext(realm.name, "", bytes(KID_LENGTH)))
        else:
            await calls.describe(key.name)
    except (KeyDenied, KeyUnavailable) as error:
        return f"the key {key} can't be used: {error}"
    return None
