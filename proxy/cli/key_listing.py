"""What `kveil keys list` shows: the key file's keys, and those of key services that the rules name."""

import asyncio
from collections.abc import Iterator
from typing import Any

from kveil.proxy.config import KeyService, Settings
from kveil.proxy.keys.keyfile import KeyFile, NamedKey
from kveil.proxy.keys.keyfile_store import read_key_file
from kveil.proxy.keys.opening import describe_keys, key_calls, open_provider
from kveil.proxy.keys.provider import KeyDescription
from kveil.proxy.policy import PROVIDER_IDS, SERVICES, KeyRef, Policy


def list_all(settings: Settings) -> dict[str, Any]:
    """All as JSON has it. Raises KeySetupError."""
    policy = Policy(settings)
    path = settings.keys.path
    has_file = settings.keys.service is KeyService.KEYFILE or path.exists()
    content = read_key_file(path)[0] if has_file else None
    services = policy.services - {KeyService.KEYFILE, KeyService.IDENTITIES}
    elsewhere = asyncio.run(_describe(settings, policy, services)) if services else []
    return {
        "path": str(path) if content else None,
        "realm": content.realm if content else settings.realm,
        "keys": [*([_file_key(key) for key in content.keys] if content else []), *elsewhere],
        "templates": sorted(_templates(settings)),
        "key_hiding_key": _hiding_key(content) if content else None,
    }


async def _describe(settings: Settings, policy: Policy, services: frozenset[KeyService]) -> list[dict[str, Any]]:
    providers = {PROVIDER_IDS[service]: open_provider(service, settings.keys) for service in sorted(services)}
    named = [key for key in policy.named_keys if key.provider in providers]
    async with key_calls(providers, settings.keys) as calls:
        found = await describe_keys(calls, named)
    return [_service_key(key, providers[key.provider].place, said) for key, said in found.items()]


def _service_key(key: KeyRef, place: str, said: KeyDescription | str) -> dict[str, Any]:
    shown = {"name": key.name, "provider": SERVICES[key.provider].value, "place": place}
    if isinstance(said, str):
        return {**shown, "problem": said}
    return {**shown, "primary": said.primary, "versions": [{"version": version} for version in said.versions]}


def _file_key(key: NamedKey) -> dict[str, Any]:
    versions = [{"version": one.version, "created": one.created} for one in key.versions]
    return {"name": key.name, "primary": key.primary, "versions": versions}


def _hiding_key(content: KeyFile) -> dict[str, str]:
    return {"id": content.key_hiding_key.id.hex(), "created": content.key_hiding_key.created}


def _templates(settings: Settings) -> set[str]:
    rules = [name for rule in settings.topics for name in (rule.key, *rule.accept_keys) if name is not None]
    return {str(name) for name in (settings.keys.default, *rules) if name.is_template}


def as_text(listing: dict[str, Any]) -> str:
    """The same for people."""
    return "\n".join(_lines(listing))


def _lines(listing: dict[str, Any]) -> Iterator[str]:
    if listing["path"]:
        yield listing["path"]
    yield f"realm: {listing['realm']}"
    for key in listing["keys"]:
        name = f"key {key['name']}"
        where = f"  of {key['provider']} at {key['place']}" if "place" in key else ""
        if "problem" in key:
            yield f"{name}{where}  CAN'T BE USED: {key['problem']}"
            continue
        for one in key["versions"]:
            made = f"  made {one['created']}" if "created" in one else ""
            mark = "  seals" if one["version"] == key["primary"] else "  opens only"
            yield f"{name}  version {one['version']}{made}{mark}{where}"
    for name in listing["templates"]:
        yield f"key {name}  is another for each topic: `kveil check --cluster` looks at each"
    if hiding := listing["key_hiding_key"]:
        yield f"key-hiding key  {hiding['id']}  made {hiding['created']}"
