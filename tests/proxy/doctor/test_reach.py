"""The way to a broker: each step that can fail does, and the sentence says which and how to mend it."""

import asyncio
import ssl
import time
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from kveil.proxy.addresses import Endpoint
from kveil.proxy.config import Settings
from kveil.proxy.config.checks import client_context
from kveil.proxy.doctor import reach as module
from kveil.proxy.doctor.findings import Level
from kveil.proxy.doctor.reach import reach
from kveil.proxy.doctor.reached import judge
from tests.support.certificates import CertificateAuthority
from tests.support.forward_proxy import ForwardProxy
from tests.support.scripted_broker import ScriptedBroker


def settings_of(ca=None, *, own=None, **upstream):
    tls = {} if ca is None else {"tls": {"ca": str(ca)}}
    if own is not None:
        tls["tls"] |= {"cert": str(own.chain), "key": str(own.key)}
    return Settings.model_validate({"upstream": {"bootstrap": ["b:1"], **tls, **upstream}})


async def look(port, settings, host="127.0.0.1"):
    """What is said, by check."""
    found = await reach(Endpoint(host, port), settings)
    return list(judge(found, settings, time.time()))


def failure_in(findings):
    (found,) = [finding for finding in findings if finding.level is Level.FAILURE]
    return found


def server_context(certificate, *, client_ca=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


@pytest.fixture
def authority(tmp_path):
    return CertificateAuthority(tmp_path / "tls")


@asynccontextmanager
async def listening(answer):
    """What isn't a Kafka broker."""

    async def serve(reader, writer):
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_broker_on_this_host():
    async with ScriptedBroker() as broker:
        name, connection = await look(broker.port, settings_of())
    assert (name.check, name.level, name.what) == ("name", Level.OK, "127.0.0.1 is an address")
    assert (connection.check, connection.level) == ("connection", Level.OK)


async def test_a_name_with_its_addresses():
    async with ScriptedBroker() as broker:
        found = await reach(Endpoint("localhost", broker.port), settings_of())
    assert "127.0.0.1" in found.addresses
    assert found.is_well


async def test_an_address_that_is_dead_beside_one_that_is_not(monkeypatch):
    """As a name with IPv6 where only IPv4 is served."""
    loop = asyncio.get_running_loop()

    async def getaddrinfo(host, port, **_):
        return [(0, 0, 0, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1", "127.0.0.1")]

    async with ScriptedBroker() as broker:
        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo, raising=False)
        name, dead, alive = await look(broker.port, settings_of(), "broker.example.net")
    assert name.what == "broker.example.net is 127.0.0.2, 127.0.0.1"
    assert (dead.level, "at 127.0.0.2: " in dead.what) == (Level.WARNING, True)
    assert alive.level is Level.OK


async def test_a_name_that_nobody_knows():
    (found,) = await look(1, settings_of(), "no-such-host.invalid")
    assert (found.check, found.level) == ("name", Level.FAILURE)
    assert "resolver" in found.remedy


async def test_nobody_listens(dead_port):
    found = failure_in(await look(dead_port, settings_of()))
    assert f"127.0.0.1:{dead_port} takes no connection: " in found.what
    assert "firewall" in found.remedy


async def test_without_tls_to_another_host():
    """What can be read on the way is told."""
    async with ScriptedBroker() as broker:
        settings = settings_of()
        found = await reach(Endpoint("127.0.0.1", broker.port), settings)
    found.addresses = ["10.0.0.1"]
    (warning,) = [one for one in judge(found, settings, time.time()) if one.level is Level.WARNING]
    assert "without TLS" in warning.what
    assert "upstream.tls" in warning.remedy


class TestTls:
    async def test_a_good_certificate(self, authority):
        issued = authority.issue("broker-1", life=timedelta(days=90))
        async with ScriptedBroker(server_context(issued)) as broker:
            _, tls, expiry, connection = await look(broker.port, settings_of(authority.path))
        assert {tls.level, expiry.level, connection.level} == {Level.OK}
        assert f"speaks TLSv1.3; it shows CN=broker-1, issued by CN=Kveil test CA, which {authority.path}" in tls.what
        assert expiry.what.endswith("in 89 days")

    async def test_one_that_ends_soon(self, authority):
        async with ScriptedBroker(server_context(authority.issue("b"))) as broker:
            found = await look(broker.port, settings_of(authority.path))
        assert [finding.level for finding in found] == [Level.OK, Level.OK, Level.WARNING, Level.OK]

    async def test_of_another_authority(self, authority, tmp_path):
        other = CertificateAuthority(tmp_path / "other", "Another CA")
        async with ScriptedBroker(server_context(authority.issue("b"))) as broker:
            found = failure_in(await look(broker.port, settings_of(other.path)))
        assert found.check == "tls"
        assert "it shows CN=b, issued by CN=Kveil test CA" in found.what
        assert "upstream.tls.ca" in found.remedy

    async def test_the_systems_roots_do_not_know_it(self, authority):
        async with ScriptedBroker(server_context(authority.issue("b"))) as broker:
            found = failure_in(await look(broker.port, settings_of(tls={})))
        assert "upstream.tls.ca" in found.remedy

    async def test_one_that_has_expired(self, authority):
        issued = authority.issue("b", life=timedelta(minutes=-1))
        async with ScriptedBroker(server_context(issued)) as broker:
            found = failure_in(await look(broker.port, settings_of(authority.path)))
        assert "expired" in found.what
        assert "renew" in found.remedy

    async def test_for_another_name(self, authority):
        issued = authority.issue("b", hosts=["broker.example.net"])
        async with ScriptedBroker(server_context(issued)) as broker:
            found = failure_in(await look(broker.port, settings_of(authority.path)))
        assert "advertised.listeners" in found.remedy

    async def test_a_port_that_speaks_none(self, authority, monkeypatch):
        monkeypatch.setattr(module, "STEP_SECONDS", 0.5)
        async with ScriptedBroker() as broker:
            found = failure_in(await look(broker.port, settings_of(authority.path)))
        assert (found.check, "no TLS came about" in found.what) == ("tls", True)
        assert "TLS port" in found.remedy

    async def test_a_port_that_speaks_it_where_none_is_set(self, authority):
        async with ScriptedBroker(server_context(authority.issue("b"))) as broker:
            found = failure_in(await look(broker.port, settings_of()))
        assert (found.check, "set upstream.tls" in found.remedy) == ("connection", True)

    async def test_one_that_wants_a_client_certificate(self, authority):
        context = server_context(authority.issue("b"), client_ca=authority.path)
        async with ScriptedBroker(context) as broker:
            found = failure_in(await look(broker.port, settings_of(authority.path)))
            assert "upstream.tls.cert" in found.remedy
            own = authority.issue("kveil", hosts=())
            found = await look(broker.port, settings_of(authority.path, own=own))
        assert Level.FAILURE not in {one.level for one in found}

    async def test_nothing_secret_goes_to_who_is_not_trusted(self, authority, tmp_path):
        """The second look, which trusts anybody, shows no certificate of ours, and asks nothing."""
        other = CertificateAuthority(tmp_path / "other", "Another CA")
        own = other.issue("kveil", hosts=())
        context = server_context(authority.issue("b"))
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(other.path)
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # where the server has seen all before the client is through
        async with Noting(context) as broker:
            found = await look(broker.port, settings_of(other.path, own=own))
            await broker.until(lambda seen: seen.connections == 1)
        assert failure_in(found).check == "tls"
        assert (broker.shown, broker.requests) == ([None], [])


class Noting(ScriptedBroker):
    """Notes which certificates clients show."""

    def __init__(self, tls):
        super().__init__(tls)
        self.shown = []

    async def _serve(self, reader, writer):
        self.shown.append(writer.get_extra_info("peercert"))
        await super()._serve(reader, writer)


class TestWhatIsNoBroker:
    async def test_a_web_server(self):
        async def answer(reader, writer):
            await reader.read(100)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()

        async with listening(answer) as port:
            found = failure_in(await look(port, settings_of()))
        assert "no Kafka broker" in found.what

    async def test_what_answers_nonsense(self):
        async def answer(reader, writer):
            await reader.read(100)
            writer.write(b"\0\0\0\x05abcde")
            await writer.drain()

        async with listening(answer) as port:
            assert "no Kafka broker" in failure_in(await look(port, settings_of())).what

    async def test_what_closes(self):
        async def answer(reader, writer):
            pass

        async with listening(answer) as port:
            assert failure_in(await look(port, settings_of())).check == "connection"

    async def test_what_never_answers(self, monkeypatch):
        monkeypatch.setattr(module, "STEP_SECONDS", 0.1)

        async def answer(reader, writer):
            await reader.read(-1)

        async with listening(answer) as port:
            found = failure_in(await look(port, settings_of()))
        assert "didn't answer within 0.1 s" in found.what


class TestForwardProxies:
    async def test_the_way_through_one(self):
        async with ScriptedBroker() as broker:

            def run():
                with ForwardProxy("http") as forward:
                    settings = settings_of(proxy=f"http://{forward.address}")
                    return asyncio.run(look(broker.port, settings, "localhost")), forward.asked

            found, asked = await asyncio.to_thread(run)
        assert "to resolve" in found[0].what
        assert ("localhost", broker.port) in asked
        assert not [one for one in found if one.level is Level.FAILURE]

    async def test_one_that_is_not_there(self, dead_port):
        found = failure_in(await look(1, settings_of(proxy=f"socks5://127.0.0.1:{dead_port}")))
        assert f"socks5://127.0.0.1:{dead_port}" in found.what


def test_contexts_are_the_proxys_own(authority):
    """What is looked at is what the proxy does."""
    assert module.client_context is client_context
