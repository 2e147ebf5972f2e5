"""Listening sockets: which there are, who is let in, and what is said of those who aren't."""

import asyncio
import errno
import socket
import ssl
from contextlib import asynccontextmanager

import pytest

from kveil.protocol.kafka.framing import KeptBuffers
from kveil.proxy.budget import BufferBudget
from kveil.proxy.config import ConfigError, load
from kveil.proxy.net import listening as module
from kveil.proxy.net.leg import Leg
from kveil.proxy.net.listening import Listening
from tests.support.certificates import CertificateAuthority
from tests.support.loops import both_loops
from tests.support.ports import reserved_port_range

COUNT = 2


class Owner:
    """Who is told of legs."""

    def __init__(self):
        self.accepted = []
        self.connected = []
        self.lost = []
        self.is_full = False
        self.when_accepted = lambda: None

    def accept(self, node_id):
        if self.is_full:
            return None
        self.accepted.append(node_id)
        self.when_accepted()
        return Leg(self, 1000, KeptBuffers(), BufferBudget(1).share(lambda: None))

    def leg_connected(self, leg):
        self.connected.append(leg)

    def leg_received(self, leg):
        frame = leg.frames.next_frame()
        if frame is not None:
            leg.write([b"\0\0\0\4", bytes(frame)])

    def leg_writable(self, leg):
        pass

    def leg_lost(self, leg):
        self.lost.append(leg)


@pytest.fixture
def port():
    with reserved_port_range(1 + COUNT) as first:
        yield first


@pytest.fixture
def told(monkeypatch, fresh_log_limits):
    found = []

    class Log:
        def warning(self, event, **values):
            found.append((event, values))

        error = info = warning

        def bind(self, **_):
            return self

    monkeypatch.setattr(module, "_log", Log())
    return found


def make(port, host="127.0.0.1", login_seconds=0.3, **listener):
    more = "".join(f", {name}: {value}" for name, value in listener.items())
    environ = {
        "KVEIL_UPSTREAM__BOOTSTRAP": "a:1",
        "KVEIL_BROKER_PORTS__COUNT": str(COUNT),
        "KVEIL_LIMITS__LOGIN_SECONDS": str(login_seconds),
        "KVEIL_NODES": "{}",
        "KVEIL_LISTENERS": f"[{{address: '{host}:{port}'{more}}}]",
    }
    settings = load(None, environ)
    return Listening(settings.listeners[0], settings)


def release(listening):
    for sock, _ in listening._sockets:
        sock.close()


@asynccontextmanager
async def running(port, **listener):
    owner, listening = Owner(), make(port, **listener)
    listening.start(owner.accept)
    try:
        yield owner, listening
    finally:
        listening.close()
        for leg in owner.connected:
            leg.abort()
        await asyncio.sleep(0)


async def echo(port, *, host="127.0.0.1", source=None, context=None):
    """What comes back of a frame: itself, or nothing."""
    options = {"ssl": context, "server_hostname": "localhost"} if context else {}
    local = (source, 0) if source else None
    reader, writer = await asyncio.open_connection(host, port, local_addr=local, **options)
    try:
        writer.write(b"\0\0\0\4echo")
        return await reader.read(8)
    except ConnectionError:
        return b""
    finally:
        writer.close()


ECHO = b"\0\0\0\4echo"


@both_loops
async def test_every_place_listens(port):
    async with running(port) as (owner, _):
        assert [await echo(port + step) for step in range(1 + COUNT)] == [ECHO] * (1 + COUNT)
        assert owner.accepted == [None, 0, 1]


@both_loops
async def test_localhost_is_both_addresses(port):
    async with running(port, host="localhost") as (_, listening):
        hosts = {sock.getsockname()[0] for sock, _ in listening._sockets}
        assert [await echo(port + 1, host=host) for host in sorted(hosts)] == [ECHO] * len(hosts)
        assert "127.0.0.1" in hosts


def test_a_machine_without_the_second_address_of_localhost(port, monkeypatch):
    real = socket.socket

    def no_ipv6(family=-1, *args, **options):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no IPv6")
        return real(family, *args, **options)

    monkeypatch.setattr(socket, "socket", no_ipv6)
    listening = make(port, host="localhost")
    assert {sock.getsockname()[0] for sock, _ in listening._sockets} == {"127.0.0.1"}
    with pytest.raises(ConfigError, match="no IPv6"):
        make(port, host="[::1]")
    release(listening)


@both_loops
async def test_an_address_for_each_broker(port):
    async with running(port, addressing="loopback") as (owner, _):
        hosts = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
        assert [await echo(port, host=host) for host in hosts] == [ECHO] * 3
        assert owner.accepted == [None, 0, 1]
        with pytest.raises(OSError):
            await echo(port + 1)


def test_a_port_that_is_taken(port):
    with (
        socket.create_server(("127.0.0.1", port + 2)),
        pytest.raises(ConfigError, match=f"port {port + 2} .*node id 1"),
    ):
        make(port)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ConfigError) as caught:
        make(port)
    assert len(caught.value.problems) == 1
    listening = make(port)  # nothing was left bound
    release(listening)


@both_loops
async def test_an_address_that_is_not_allowed(port, told):
    async with running(port, allow="[127.0.0.2]", name="inner") as (owner, _):
        assert [await echo(port, source=source) for source in ("127.0.0.1", "127.0.0.1")] == [b"", b""]
        assert await echo(port, source="127.0.0.2") == ECHO
        assert owner.accepted == [None]
        assert told == [("address_refused", {"listener": "inner", "client": "127.0.0.1"})]


@both_loops
async def test_no_room_for_one_more(port):
    async with running(port) as (owner, _):
        owner.is_full = True
        assert await echo(port) == b""
        owner.is_full = False
        assert await echo(port) == ECHO


@both_loops
async def test_a_system_without_room_is_tried_again(port, told, monkeypatch):
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    async with running(port) as (_, listening):
        real = socket.socket.accept
        failures = [OSError(errno.EMFILE, "Too many open files")] * 2

        def accept(sock):
            if failures:
                raise failures.pop()
            return real(sock)

        monkeypatch.setattr(socket.socket, "accept", accept)
        assert await echo(port) == ECHO
        assert failures == []
        assert told == [("accept_failed", {"listener": listening.listener.label, "reason": "Too many open files"})]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def files(authority):
    own = authority.issue("kveil")
    return f"{{cert: '{own.chain}', key: '{own.key}'}}"


class TestTls:
    @both_loops
    async def test_is_spoken(self, port, authority, files):
        context = ssl.create_default_context(cafile=authority.path)
        async with running(port, tls=files) as (owner, _listening):
            assert await echo(port, context=context) == ECHO
            assert len(owner.connected) == 1

    @both_loops
    async def test_what_is_none_is_told_once(self, port, authority, files, told):
        async with running(port, tls=files) as (owner, _listening):
            for _ in range(2):
                assert await echo(port) != ECHO
            assert (owner.connected, len(owner.lost)) == ([], len(owner.accepted))
            assert [event for event, _ in told] == ["tls_handshake_failed"]
            assert told[0][1]["client"] == "127.0.0.1"

    @both_loops
    async def test_a_handshake_that_never_ends(self, port, files, told):
        async with running(port, tls=files) as (owner, _listening):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                assert await reader.read(1) == b""
            except ConnectionError:
                pass
            finally:
                writer.close()
            assert (owner.connected, len(owner.lost)) == ([], len(owner.accepted))
            assert [event for event, _ in told] == ["tls_handshake_failed"]

    @both_loops
    async def test_one_that_is_under_way_ends_with_the_listener(self, port, files):
        async with running(port, tls=files, login_seconds=3600) as (owner, listening):
            began = asyncio.Event()
            owner.when_accepted = began.set
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await began.wait()
            listening.close()
            try:
                assert await reader.read(1) == b""
            except ConnectionError:
                pass
            finally:
                writer.close()
