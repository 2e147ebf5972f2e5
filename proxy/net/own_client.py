"""The proxy as its own client: requests of a command's go the way of a client's, to the cluster and back.

So a command reaches the cluster as `kveil run` does, with its TLS, login and forward proxy, and seals and opens by
the same rules. No port listens: both ends of the connection are in this process.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from kveil.protocol.kafka.api_table import API_TABLE, ApiKey
from kveil.protocol.kafka.messages import decode_response, encode_request
from kveil.proxy import log
from kveil.proxy.config import Direction
from kveil.proxy.context import Connection, Shared
from kveil.proxy.errors import QuestionFailed
from kveil.proxy.net.relay import Relay
from kveil.proxy.net.upstream import Upstream
from kveil.proxy.policy import OWN_PRINCIPAL

ANSWER_SECONDS = 30.0
"""As long as clients wait."""

_CLIENT_ID = "kveil"
_NO_PORT = 0
"""Brokers' local addresses aren't connected to."""
_READ_BYTES = 1024 * 1024
"""How much of an answer waits to be read."""


class NoPorts:
    """A place for every broker: this client says itself whom it wants, and connects to no port."""

    bootstrap = _NO_PORT

    def place_of(self, node_id: int) -> tuple[str | None, int]:  # noqa: ARG002 - all the same
        """Return the port that isn't there."""
        return None, _NO_PORT

    def places(self) -> Iterator[tuple[str | None, int, int | None]]:
        """Yield none: nothing listens."""
        return iter(())


class _Alone:
    """The owner of the one relay."""

    holds = False

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def relay_ended(self, relay: Relay) -> None:  # noqa: ARG002 - the only one
        """Both sides are closed."""
        self.ended.set()


class OwnClient:
    """One connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._versions: dict[int, tuple[int, int]] = {}
        self._number = 0

    async def ask(self, api_key: int, values: Mapping[str, Any], *, most: int = 32767) -> Any:
        """Return the answer as kio decodes it, in the highest version up to `most` that both sides speak.

        :raises QuestionFailed: the cluster can't be asked, or doesn't answer.
        """
        if not self._versions:
            await self.look()
        row = API_TABLE[api_key]
        low, high = self._versions.get(api_key, (0, -1))
        version = min(high, row.max_version, most)
        if version < max(low, row.min_version):
            raise QuestionFailed(f"the cluster doesn't offer {row.name} in a version that is spoken here")
        return await self._ask(api_key, version, values)

    async def look(self) -> None:
        """Ask what the cluster speaks, which takes no right.

        :raises QuestionFailed: the cluster can't be asked, or doesn't answer.
        """
        answer = await self._ask(ApiKey.API_VERSIONS, 0, {})
        self._versions = {row.api_key: (row.min_version, row.max_version) for row in answer.api_keys}

    async def _ask(self, api_key: int, version: int, values: Mapping[str, Any]) -> Any:
        self._number += 1
        frame = encode_request(api_key, version, self._number, _CLIENT_ID, values)
        self._writer.write(len(frame).to_bytes(4, "big") + frame)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                size = int.from_bytes(await self._reader.readexactly(4), "big")
                answer = await self._reader.readexactly(size)
        except TimeoutError:
            raise QuestionFailed(f"the cluster didn't answer within {ANSWER_SECONDS:.0f} s") from None
        except (asyncio.IncompleteReadError, OSError):
            if not self._versions:
                raise QuestionFailed("the cluster can't be reached or doesn't let the proxy in: see the log") from None
            raise QuestionFailed(
                f"the cluster closed the connection at {API_TABLE[api_key].name}. If it wants a login, the "
                "configuration needs upstream.sasl, or upstream.own_sasl: here no client logs in"
            ) from None
        return decode_response(api_key, version, memoryview(answer))


@asynccontextmanager
async def own_client(
    shared: Shared, node_id: int | None = None, upstream: Upstream | None = None, logger: Any = None
) -> AsyncIterator[OwnClient]:
    """Be a client for the length of a block: of any broker, or of the one that an answer has named.

    A server gives its own `upstream`, which has its login. `logger` is for who wants to know by itself what went wrong.
    """
    near, far = socket.socketpair()
    owner = _Alone()
    connection = Connection(
        shared=shared,
        log=logger or log.get_logger(__name__),
        direction=Direction.BOTH,
        ports=NoPorts(),
        host="localhost",
        node_id=node_id,
        principal=OWN_PRINCIPAL,
    )
    relay = Relay(connection, upstream or Upstream(shared.settings), owner)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: relay.client, far)
    reader, writer = await asyncio.open_connection(sock=near, limit=_READ_BYTES)
    try:
        yield OwnClient(reader, writer)
    finally:
        writer.close()
        relay.abort()
        await owner.ended.wait()
