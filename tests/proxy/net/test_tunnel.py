"""The way through a forward proxy."""

import asyncio

import pytest

from kveil.proxy.addresses import Endpoint
from kveil.proxy.config import Upstream
from kveil.proxy.net.tunnel import Tunnel
from tests.support.forward_proxy import ForwardProxy
from tests.support.loops import both_loops
from tests.support.scripted_broker import ScriptedBroker


def tunnel(url, **more):
    return Tunnel(Upstream.model_validate({"bootstrap": ["broker:9092"], "proxy": url, **more}))


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("host", ["broker.example.net", "127.0.0.1"])
@both_loops
async def test_the_proxy_is_given_the_name(scheme, host):
    async with ScriptedBroker() as broker:
        with ForwardProxy(scheme) as proxy:
            sock = await tunnel(f"{scheme}://{proxy.address}").open(Endpoint(host, broker.port))
            await broker.until(lambda b: b.connections == 1)
            sock.close()
            await broker.until(lambda b: b.ended == 1)
        assert proxy.asked == [(host, broker.port)]


@pytest.mark.parametrize(("scheme", "password"), [("http", "se:cret ü"), ("socks5", "se:cret u")])
@both_loops
async def test_a_login(scheme, password, tmp_path):
    place = tmp_path / "password"
    place.write_text(password + "\n")
    async with ScriptedBroker() as broker:
        with ForwardProxy(scheme, "eve@example.net", password) as proxy:
            way = tunnel(f"{scheme}://eve%40example.net@{proxy.address}", proxy_password=f"file:{place}")
            (await way.open(Endpoint("broker", broker.port))).close()
            place.write_text("rotated")
            with pytest.raises(OSError, match="eve%40example") as caught:
                await way.open(Endpoint("broker", broker.port))
            assert "rotated" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "it answered 'HTTP/1.1 403 Forbidden'"),
        (b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0", "more than an answer"),
        (b"HTTP/1.1 200 OK\r\n", "as an HTTP proxy does"),
        (b"", "as an HTTP proxy does"),
        (b"\0" * 40_000, "as an HTTP proxy does"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "it answered 'SSH-2.0-OpenSSH'"),
    ],
)
@both_loops
async def test_what_is_no_yes(answer, reason):
    with ForwardProxy("http") as proxy:
        proxy.answer = answer
        with pytest.raises(OSError, match=reason):
            await tunnel(f"http://{proxy.address}").open(Endpoint("broker", 9092))


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@both_loops
async def test_a_proxy_that_is_not_there(scheme, dead_ports):
    with pytest.raises(OSError, match=f"through {scheme}://127.0.0.1:{dead_ports[0]}: "):
        await tunnel(f"{scheme}://127.0.0.1:{dead_ports[0]}").open(Endpoint("broker", 9092))


@pytest.mark.parametrize(("scheme", "password"), [("http", b"\xff"), ("socks5", "ü".encode())])
async def test_a_password_that_can_not_be_sent_is_not_shown(scheme, password, tmp_path):
    place = tmp_path / "password"
    place.write_bytes(password)
    with ForwardProxy(scheme, "eve", "right") as proxy:
        way = tunnel(f"{scheme}://eve@{proxy.address}", proxy_password=f"file:{place}")
        with pytest.raises(OSError, match=r"characters that can't be sent$"):
            await way.open(Endpoint("broker", 9092))


async def test_another_address_of_its_name_is_tried(monkeypatch):
    """localhost is two addresses, and a proxy may listen on one of them only."""
    async with ScriptedBroker() as broker:
        with ForwardProxy("http") as proxy:
            _, _, port = proxy.address.rpartition(":")
            loop = asyncio.get_running_loop()
            good = await loop.getaddrinfo("127.0.0.1", int(port), type=1)
            bad = [(*good[0][:4], ("127.0.0.2", int(port)))]

            async def both(*_, **__):
                return bad + good

            monkeypatch.setattr(loop, "getaddrinfo", both)
            (await tunnel(f"http://localhost:{port}").open(Endpoint("broker", broker.port))).close()
            await broker.until(lambda b: b.connections == 1)
