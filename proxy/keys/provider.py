"""What the proxy asks of whoever keeps the key-encryption keys."""

from dataclasses import dataclass
from typing import Protocol

from kveil.protocol.envelope.header import KeyBlock
from kveil.proxy.keys.keyfile import HidingKey


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDescription:
    """One key-encryption key, without its material. Versions are the oldest first."""

    name: str
    primary: str
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderDescription:
    """What a provider holds, for people."""

    provider: str
    place: str
    realm: str
    keys: tuple[KeyDescription, ...]


class KeyProvider(Protocol):
    """Wraps and unwraps epoch keys. A call may leave the machine, so it may be slow."""

    @property
    def id(self) -> int:
        """Its number in the envelope's key block."""
        ...

    @property
    def realm(self) -> str:
        """The deployment that its keys belong to."""
        ...

    async def wrap(self, topic: str, kid: bytes, secret: bytes, key_name: str) -> KeyBlock:
        """Wraps an epoch key under the primary version of `key_name`. Raises KeyRefused or KeyUnavailable."""
        ...

    async def unwrap(self, topic: str, kid: bytes, block: KeyBlock) -> bytes:
        """The epoch key in `block`. Raises KeyRefused or KeyUnavailable."""
        ...

    def primary_version(self, key_name: str) -> str | None:
        """The version that seals now, as last seen: never asks. None if there is no such key."""
        ...

    def hiding_key(self) -> HidingKey | None:
        """What hides records' keys, as last seen: never asks. None if none was made."""
        ...

    def refresh(self) -> bool:
        """Looks whether the keys have changed. True if they have: what was refused may be known now."""
        ...

    def describe(self) -> ProviderDescription:
        """What there is, as last seen."""
        ...

    async def health(self) -> None:
        """Raises KeyUnavailable, with the reason, if the provider can't be used now."""
        ...
