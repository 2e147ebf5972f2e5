"""A broker over a real socket that answers as the test says, and a client that sends what the test says.

async with ScriptedBroker() as broker:
    broker.answers[ApiKey.METADATA] = {"brokers": [...]}         # or a function of the request
    broker.silent.add(ApiKey.FETCH)                              # left open until `broker.answer_held()`
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

from kveil.protocol.kafka.api_table import API_TABLE, Action, ApiKey
from kveil.protocol.kafka.headers import RequestHeader, read_request_header
from kveil.protocol.kafka.messages import encode_request, encode_response
from tests.support.conversation import read_request

SECONDS = 20.0
"""After so long a test has failed."""


class Request(NamedTuple):
    """What the broker got."""

    header: RequestHeader
    frame: bytes
    writer: asyncio.StreamWriter


Answer = Mapping[str, Any] | bytes | None | Callable[[Request], "Answer"]
"""Values of the answer, a whole frame, None for no answer."""


class ScriptedBroker:
    """Answers in order; what it isn't told of gets defaults."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self._tls = tls
        self.requests: list[Request] = []
        self.answers: dict[int, Answer] = {
            ApiKey.API_VERSIONS: everything_offered(),
            ApiKey.DESCRIBE_CONFIGS: describe_configs,
        }
        self.silent: set[int] = set()
        self.held: list[Request] = []
        self.sent = 0
        self.connections = 0
        self.ended = 0
        self.may_read = asyncio.Event()
        self.may_read.set()
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """For `upstream.bootstrap`."""
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=4 * 1024 * 1024, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def apis(self) -> list[int]:
        """The APIs that were asked, in order."""
        return [request.header.api_key for request in self.requests]

    async def until(self, condition: Callable[[Self], bool]) -> None:
        """Wait until something is so of what this broker has seen."""
        async with asyncio.timeout(SECONDS), self._changed:
            await self._changed.wait_for(lambda: condition(self))

    async def answer_held(self) -> None:
        """Answer what was asked of silent APIs."""
        self.silent.clear()
        held, self.held = self.held, []
        for request in held:
            await self._answer(request)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        await self._note(connections=1)
        try:
            while True:
                await self.may_read.wait()
                size = int.from_bytes(await reader.readexactly(4), "big")
                frame = await reader.readexactly(size)
                request = Request(read_request_header(frame), frame, writer)
                self.requests.append(request)
                await self._note()
                if request.header.api_key in self.silent:
                    self.held.append(request)
                else:
                    await self._answer(request)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)
            with contextlib.suppress(asyncio.CancelledError):
                await self._note(ended=1)

    async def _answer(self, request: Request) -> None:
        header = request.header
        answer = self.answers.get(header.api_key, {})
        while callable(answer):
            answer = answer(request)
        if answer is None:
            return
        if not isinstance(answer, bytes):
            answer = encode_response(header.api_key, header.api_version, header.correlation_id, answer)
        request.writer.write(len(answer).to_bytes(4, "big") + answer)
        await request.writer.drain()
        await self._note(sent=1)

    async def _note(self, *, connections: int = 0, ended: int = 0, sent: int = 0) -> None:
        self.connections += connections
        self.ended += ended
        self.sent += sent
        async with self._changed:
            self._changed.notify_all()


def everything_offered(**ranges: tuple[int, int]) -> dict[str, Any]:
    """An ApiVersions answer; `ranges` by the API's name, (0, -1) for none."""
    rows = {row.name: row for row in API_TABLE.values() if row.action is not Action.REFUSE}
    offered = {name: (row.min_version, row.max_version) for name, row in rows.items()} | ranges
    keys = [
        {"api_key": rows[name].key, "min_version": low, "max_version": high}
        for name, (low, high) in offered.items()
        if low <= high
    ]
    return {"api_keys": keys}


def describe_configs(request: Request, **settings: str) -> dict[str, Any]:
    """The settings of every topic that is asked for: not compacted unless said otherwise."""
    _, asked = read_request(request.frame)
    values = {"cleanup.policy": "delete", "max.message.bytes": "1048588", **settings}
    configs = [
        {"name": name, "value": value, "read_only": False, "is_sensitive": False, "documentation": None}
        for name, value in values.items()
    ]
    return {
        "results": [
            {"resource_type": 2, "resource_name": row.resource_name, "error_message": None, "configs": configs}
            for row in asked.resources
        ]
    }


class SocketClient:
    """A client that sends frames and reads answers one by one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._numbers = 0
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=256 * 1024))

    async def send(self, api_key: int, version: int, values: Mapping[str, Any] | None = None) -> int:
        """Send a request; returns its correlation id."""
        self._numbers += 1
        await self.send_bytes(frame_of(encode_request(api_key, version, self._numbers, "app", values or {})))
        return self._numbers

    async def send_bytes(self, data: bytes) -> None:
        """Send anything."""
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self) -> bytes:
        """The next answer's frame."""
        async with asyncio.timeout(SECONDS):
            size = int.from_bytes(await self._reader.readexactly(4), "big")
            return await self._reader.readexactly(size)

    async def ask(self, api_key: int, version: int, values: Mapping[str, Any] | None = None) -> bytes:
        """Send a request and read its answer."""
        number = await self.send(api_key, version, values)
        frame = await self.receive()
        assert int.from_bytes(frame[:4], "big") == number
        return frame

    async def closed(self) -> bytes:
        """Wait for the end of the connection, and return what came before it."""
        async with asyncio.timeout(SECONDS):
            try:
                return await self._reader.read(-1)
            except ConnectionError:
                return b""

    async def close(self) -> None:
        """End the connection."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


def frame_of(message: bytes) -> bytes:
    """A message with its size in front."""
    return len(message).to_bytes(4, "big") + message
