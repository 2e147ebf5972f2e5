"""A key service of a deployment's own, as `keys.provider: tests.support.key_services.own:OwnProvider` loads it.

Its keys are in a key file, which the service reads for each call. Without the file it is down.
"""

from pathlib import Path

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import KeyBlock
from kveil.proxy.keys.errors import KeyFileError, KeyUnavailable
from kveil.proxy.keys.provider import KeyContext, KeyDescription
from kveil.proxy.keys.providers.keyfile import KeyFileProvider

OWN_PROVIDER = f"{__name__}:OwnProvider"


class OwnProvider:
    """As a client of the service sees it."""

    id = registry.PRIVATE_USE

    def __init__(self, path: str) -> None:
        self.place = f"own service {path}"
        self._path = Path(path)

    def _service(self) -> KeyFileProvider:
        try:
            return KeyFileProvider(self._path)
        except KeyFileError:
            raise KeyUnavailable(f"{self.place} is down") from None

    async def wrap(self, name: str, secret: bytes, context: KeyContext) -> KeyBlock:
        block = await self._service().wrap(name, secret, context)
        return block._replace(provider=self.id, mechanism=registry.SERVICE_AEAD)

    async def unwrap(self, block: KeyBlock, context: KeyContext) -> bytes:
        return await self._service().unwrap(block, context)

    async def describe(self, name: str) -> KeyDescription:
        return await self._service().describe(name)

    async def health(self) -> None:
        await self._service().health()

    def refresh(self) -> bool:
        return False

    async def close(self) -> None:
        """Nothing is held open."""
