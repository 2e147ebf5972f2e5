"""A listener's clients after they were let in: the TLS handshake, and what is said of those who can't do it."""

import asyncio
import ssl

import pytest

from tests.support.certificates import CertificateAuthority
from tests.support.doors import ECHO, echo, running
from tests.support.loops import both_loops


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
        async with running(port, tls=files) as owner:
            assert await echo(port, context=context) == ECHO
            assert len(owner.connected) == 1

    @both_loops
    async def test_what_is_none_is_told_once(self, port, authority, files, told):
        async with running(port, tls=files) as owner:
            for _ in range(2):
                assert await echo(port) != ECHO
            assert (owner.connected, len(owner.lost)) == ([], len(owner.accepted))
            assert [event for event, _ in told] == ["tls_handshake_failed"]
            assert told[0][1]["client"] == "127.0.0.1"

    @both_loops
    async def test_a_handshake_that_never_ends(self, port, files, told):
        async with running(port, tls=files) as owner:
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
        async with running(port, tls=files, login_seconds=3600) as owner:
            began = asyncio.Event()
            owner.when_accepted = began.set
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await began.wait()
            owner.listening.close()
            try:
                assert await reader.read(1) == b""
            except ConnectionError:
                pass
            finally:
                writer.close()
