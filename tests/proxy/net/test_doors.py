"""Listening sockets: which there are, who is let in, and what is said of those who aren't."""

import asyncio
import errno
import socket

import pytest

from kveil.proxy.config import ConfigError
from kveil.proxy.net import accepting
from kveil.proxy.net.doors import Door, open_doors
from tests.support.doors import COUNT, ECHO, echo, listener_settings, running
from tests.support.loops import both_loops
from tests.support.ports import reserved_port_range


def make(port, **listener):
    return Door(0, listener_settings(port, **listener))


@both_loops
async def test_every_place_listens(port):
    async with running(port) as owner:
        assert [await echo(port + step) for step in range(1 + COUNT)] == [ECHO] * (1 + COUNT)
        assert owner.accepted == [None, 0, 1]


@both_loops
async def test_localhost_is_both_addresses(port):
    async with running(port, host="localhost") as server:
        hosts = {sock.getsockname()[0] for door in server.accepting._doors for sock, _ in door.sockets}
        assert [await echo(port + 1, host=host) for host in sorted(hosts)] == [ECHO] * len(hosts)
        assert "127.0.0.1" in hosts


def test_a_machine_without_the_second_address_of_localhost(port, monkeypatch):
    real = socket.socket

    def no_ipv6(family=-1, *args, **options):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no IPv6")
        return real(family, *args, **options)

    monkeypatch.setattr(socket, "socket", no_ipv6)
    door = make(port, host="localhost")
    assert {sock.getsockname()[0] for sock, _ in door.sockets} == {"127.0.0.1"}
    with pytest.raises(ConfigError, match="no IPv6"):
        make(port, host="[::1]")
    door.close()


@both_loops
async def test_an_address_for_each_broker(port):
    async with running(port, addressing="loopback") as owner:
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
    door = make(port)  # nothing was left bound
    door.close()


@both_loops
async def test_an_address_that_is_not_allowed(port, told):
    async with running(port, allow="[127.0.0.2]", name="inner") as owner:
        assert [await echo(port, source=source) for source in ("127.0.0.1", "127.0.0.1")] == [b"", b""]
        assert await echo(port, source="127.0.0.2") == ECHO
        assert owner.accepted == [None]
        assert told == [("address_refused", {"listener": "inner", "client": "127.0.0.1"})]


@both_loops
async def test_no_room_for_one_more(port, told):
    async with running(port, most=1) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ECHO)
        assert await reader.read(8) == ECHO
        assert await echo(port + 1) == b""
        assert told == [("too_many_connections", {"max_connections": 1})]
        gone = asyncio.Event()
        server.when_lost = gone.set
        writer.close()
        await gone.wait()
        assert await echo(port + 1) == ECHO


@both_loops
async def test_a_system_without_room_is_tried_again(port, told, monkeypatch):
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", 0.01)
    async with running(port):
        real = socket.socket.accept
        failures = [OSError(errno.EMFILE, "Too many open files")] * 2

        def accept(sock):
            if failures:
                raise failures.pop()
            return real(sock)

        monkeypatch.setattr(socket.socket, "accept", accept)
        assert await echo(port) == ECHO
        assert failures == []
        assert told == [("accept_failed", {"listener": f"127.0.0.1:{port}", "reason": "Too many open files"})]


def test_a_second_listener_whose_port_is_taken_leaves_none_bound(port):
    with reserved_port_range(1 + COUNT) as other, socket.create_server(("127.0.0.1", other)):
        settings = listener_settings(port)
        listeners = (*settings.listeners, *listener_settings(other).listeners)
        with pytest.raises(ConfigError, match=f"port {other} "):
            open_doors(settings.model_copy(update={"listeners": listeners}))
    make(port).close()


def test_a_port_that_is_taken_between_binding_and_listening(port):
    """Two sockets may be bound to one port as long as neither listens."""
    first, second = make(port), make(port)
    first.listen()
    with pytest.raises(ConfigError, match=f"port {port} .*in use"):
        second.listen()
    first.close()
    second.close()
