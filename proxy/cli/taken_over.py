"""The key-hiding key of a key file, for a realm that goes over to identities."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kveil.proxy.keys.keyfile import HidingKey, WrappedHidingKey


def taken_over(path: Path, config: Path | None, realm: str | None) -> "tuple[str, HidingKey]":
    """The file's realm, and its key-hiding key. `config` says where the key service is that wrapped it.

    :raises KeySetupError: it can't be had, or is another realm's.
    """
    from kveil.proxy.identity.errors import IdentityError
    from kveil.proxy.keys.keyfile import HidingKey
    from kveil.proxy.keys.keyfile_store import read_key_file

    content, _ = read_key_file(path)
    if realm not in {None, content.realm}:
        raise IdentityError(
            f"{path} belongs to realm {content.realm}, not to {realm}: leave --realm out, since the name is a part of "
            "what hides records' keys"
        )
    hiding = content.key_hiding_key
    if isinstance(hiding, HidingKey):
        return content.realm, hiding
    if config is None:
        raise IdentityError(f"a key service wrapped the key-hiding key of {path}: --config says where to ask it")
    return content.realm, _unwrapped(hiding, config, content.realm)


def _unwrapped(hiding: "WrappedHidingKey", config: Path, realm: str) -> "HidingKey":
    import asyncio

    from kveil.proxy.config import load_key_settings
    from kveil.proxy.identity.errors import IdentityError
    from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable
    from kveil.proxy.keys.hiding import unwrap_hiding_key
    from kveil.proxy.keys.opening import key_calls, open_provider
    from kveil.proxy.policy import SERVICES

    keys = load_key_settings(config, overrides=()).keys
    number = hiding.block.provider
    provider = open_provider(SERVICES[number], keys)

    async def unwrap() -> "HidingKey":
        async with key_calls({number: provider}, keys) as calls:
            return await unwrap_hiding_key(calls[number], hiding, realm)

    try:
        return asyncio.run(unwrap())
    except (KeyDenied, KeyUnavailable) as error:
        raise IdentityError(f"the key-hiding key can't be had: {error}") from None
