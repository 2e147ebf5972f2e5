"""From the settings to a key ring, or to every reason why not."""

import asyncio
import importlib
from collections.abc import Mapping
from typing import Final

from kveil.protocol.envelope.header import KID_LENGTH
from kveil.protocol.envelope.key_schedule import EPOCH_KEY_LENGTH
from kveil.protocol.envelope.key_topic import KeyTopicCodec
from kveil.proxy.admin.metrics import Metrics
from kveil.proxy.config import Direction, Keys, KeyService, Settings
from kveil.proxy.keys.calls import KeyCalls
from kveil.proxy.keys.errors import KeyDenied, KeySetupError, KeyUnavailable
from kveil.proxy.keys.provider import KeyContext, KeyProvider
from kveil.proxy.keys.providers.keyfile import KeyFileProvider
from kveil.proxy.keys.realm import Realm, open_realm
from kveil.proxy.keys.record_keys import RecordKeys
from kveil.proxy.keys.ring import KeyRing
from kveil.proxy.policy import PROVIDER_IDS, KeyRef, Policy

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
    realm = open_realm(settings)
    return KeyRing(_open_providers(settings, policy), realm, settings.keys, settings.limits, metrics=metrics)


def open_record_keys(settings: Settings, policy: Policy, keys: KeyRing) -> RecordKeys | None:
    """The epoch keys of record keys, None where no rule asks for any. Raises KeySetupError."""
    if not policy.any_record_keys:
        return None
    secret = _hiding_secret(settings, open_realm(settings))
    return RecordKeys(keys, KeyTopicCodec(hiding_secret=secret, realm=keys.realm), settings.limits)


def _hiding_secret(settings: Settings, realm: Realm) -> bytes:
    if realm.hiding_key is None:
        msg = (
            "key_per: record_key needs a key-hiding key, which is kept in the key file: `kveil keys init` makes "
            f"{settings.keys.path}"
        )
        raise KeySetupError(msg)
    return realm.hiding_key.secret


def check_keys(settings: Settings, policy: Policy) -> Realm:
    """The realm, if every key that the rules name can be used. With `keys.lazy` none is asked for.

    :raises KeySetupError: some can't, with all reasons.
    """
    realm = open_realm(settings)
    if policy.any_record_keys:
        _hiding_secret(settings, realm)
    providers = _open_providers(settings, policy)
    if not settings.keys.lazy:
        asyncio.run(_check(settings, policy, realm, providers))
    return realm


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


def _open_providers(settings: Settings, policy: Policy) -> Mapping[int, KeyProvider]:
    return {PROVIDER_IDS[service]: open_provider(service, settings.keys) for service in sorted(policy.services)}


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
    metrics = Metrics()
    calls = {
        number: KeyCalls(provider, settings.keys.call_timeout_seconds, metrics)
        for number, provider in providers.items()
    }
    names = sorted(policy.named_keys)
    try:
        found = await asyncio.gather(
            *(_check_key(calls[key.provider], key, realm, seals and key in policy.sealing_keys) for key in names)
        )
    finally:
        await asyncio.gather(*(provider.close() for provider in providers.values()))
    problems = [problem for problem in found if problem is not None]
    if problems:
        raise KeySetupError("\n".join(problems))


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
