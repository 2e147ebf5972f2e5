"""Listeners at work in a test's own event loop, with an echo behind them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kveil.protocol.kafka.framing import KeptBuffers
from kveil.proxy.budget import BufferBudget
from kveil.proxy.config import Settings, load
from kveil.proxy.net.accepting import Accepting
from kveil.proxy.net.leg import Leg
from kveil.proxy.net.listening import Listening

COUNT = 2
"""Broker ports."""

ECHO = b"\0\0\0\4echo"


class EchoServer:
    """What a server is for its source of connections, and who is told of legs."""

    def __init__(self, settings: Settings) -> None:
        self.listening = Listening(settings.listeners[0], settings)
        self.accepted: list[int | None] = []
        self.connected: list[Leg] = []
        self.lost: list[Leg] = []
        self._when_ended: dict[Leg, Any] = {}
        self.when_accepted = self.when_lost = lambda: None
        self.accepting = Accepting(settings, "test")

    def take(self, arrival, when_ended) -> None:
        self.accepted.append(arrival.node_id)
        self.when_accepted()
        leg = Leg(self, 1000, KeptBuffers(), BufferBudget(1).share(lambda: None))
        self._when_ended[leg] = when_ended
        self.listening.take(arrival, leg)

    def leg_connected(self, leg) -> None:
        self.connected.append(leg)

    def leg_received(self, leg) -> None:
        frame = leg.frames.next_frame()
        if frame is not None:
            leg.write([b"\0\0\0\4", bytes(frame)])

    def leg_writable(self, leg) -> None:
        pass

    def leg_lost(self, leg) -> None:
        self.lost.append(leg)
        self._when_ended.pop(leg)()
        self.when_lost()


def listener_settings(port: int, host: str = "127.0.0.1", login_seconds: float = 0.3, most: int = 10, **listener):
    more = "".join(f", {name}: {value}" for name, value in listener.items())
    environ = {
        "KVEIL_UPSTREAM__BOOTSTRAP": "a:1",
        "KVEIL_BROKER_PORTS__COUNT": str(COUNT),
        "KVEIL_LIMITS__LOGIN_SECONDS": str(login_seconds),
        "KVEIL_LIMITS__MAX_CONNECTIONS": str(most),
        "KVEIL_NODES": "{}",
        "KVEIL_LISTENERS": f"[{{address: '{host}:{port}'{more}}}]",
    }
    return load(None, environ)


@asynccontextmanager
async def running(port: int, **listener) -> AsyncIterator[EchoServer]:
    """A listener on a port, for the length of a block."""
    settings = listener_settings(port, **listener)
    server = EchoServer(settings)
    server.accepting.open()
    server.accepting.start(server.take)
    try:
        yield server
    finally:
        server.accepting.close()
        server.listening.close()
        for leg in server.connected:
            leg.abort()
        await asyncio.sleep(0)


async def echo(port: int, *, host="127.0.0.1", source=None, context=None) -> bytes:
    """What comes back of a frame: itself, or nothing."""
    options = {"ssl": context, "server_hostname": "localhost"} if context else {}
    local = (source, 0) if source else None
    reader, writer = await asyncio.open_connection(host, port, local_addr=local, **options)
    try:
        writer.write(ECHO)
        return await reader.read(8)
    except ConnectionError:
        return b""
    finally:
        writer.close()
