"""Relays and listeners between real sockets."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from kveil.proxy.addresses import Endpoint
from kveil.proxy.net import doors, listening
from kveil.proxy.net.relay import Relay
from kveil.proxy.net.upstream import Upstream
from tests.support.conversation import make_connection, make_shared
from tests.support.doors import COUNT
from tests.support.ports import reserved_port_range, reserved_ports
from tests.support.scripted_broker import SECONDS, ScriptedBroker, SocketClient


class Proxy:
    """A listener with its relays."""

    holds = False

    def __init__(self, shared, upstream, **options):
        self.shared = shared
        self.relays = []
        self.connections = []
        self.port = 0
        self._upstream = upstream
        self._options = options
        self._ended = 0
        self._changed = asyncio.Event()
        self._clients = []

    def accept(self):
        options = dict(self._options)
        if (make_login := options.pop("make_login", None)) is not None:
            options["listener_login"] = make_login()
        connection = make_connection(self.shared, **options)
        relay = Relay(connection, self._upstream, self)
        self.connections.append(connection)
        self.relays.append(relay)
        return relay.client

    def relay_ended(self, relay):
        self._ended += 1
        self._changed.set()

    async def client(self):
        client = await SocketClient.connect(self.port)
        self._clients.append(client)
        return client

    async def until_ended(self, count):
        async with asyncio.timeout(SECONDS):
            while self._ended < count:
                self._changed.clear()
                await self._changed.wait()

    async def until(self, condition):
        """What no event tells of: the state of the kernel's buffers, say."""
        async with asyncio.timeout(SECONDS):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    def lines(self, event):
        return [line for connection in self.connections for line in connection.log.of(event)]


@pytest.fixture
def dead_ports():
    """Two ports that refuse connections."""
    with reserved_ports(2) as ports:
        yield ports


@pytest.fixture
def run_proxy(tmp_path, fresh_log_limits):
    """`async with run_proxy(topics=[...]) as (proxy, broker)`."""

    @asynccontextmanager
    async def run(
        *,
        broker=None,
        provider=None,
        node_id=None,
        direction="both",
        known=None,
        make_login=None,
        tracer=None,
        **config,
    ):
        async with ScriptedBroker() as own:
            shared = make_shared(tmp_path, upstream=broker or own.address, provider=provider, **config)
            if known is not None:
                shared.brokers.learn(known, Endpoint("127.0.0.1", own.port))
            proxy = Proxy(
                shared,
                Upstream(shared.settings),
                node_id=node_id,
                direction=direction,
                make_login=make_login,
                tracer=tracer,
            )
            server = await asyncio.get_running_loop().create_server(proxy.accept, "127.0.0.1", 0)
            proxy.port = server.sockets[0].getsockname()[1]
            try:
                yield proxy, own
            finally:
                server.close()
                for client in proxy._clients:
                    await client.close()
                for relay in proxy.relays:
                    relay.abort()
                await proxy.until_ended(len(proxy.relays))

    return run


@pytest.fixture
def port():
    """The first of the ports of a listener of `tests.support.doors`."""
    with reserved_port_range(1 + COUNT) as first:
        yield first


@pytest.fixture
def told(monkeypatch, fresh_log_limits):
    """What is logged of clients that aren't served: event and values."""
    found = []

    class Log:
        def warning(self, event, **values):
            found.append((event, values))

        error = warning

        def info(self, event, **values):
            pass

        def bind(self, **_):
            return self

    for module in (doors, listening):
        monkeypatch.setattr(module, "_log", Log())
    return found
