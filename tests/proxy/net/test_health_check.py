"""How a running proxy's listeners look to `kveil health`."""

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from tests.support.listener import secured_proxy
from tests.support.ports import reserved_port_range
from tests.support.proxy import Proxy, kveil, kveil_proxy
from tests.support.scripted_broker import ScriptedBroker

NOWHERE = "127.0.0.1:1"


def health(config: Path, *options: str) -> tuple[int, str]:
    done = kveil("health", "-c", str(config), *options)
    assert done.stderr == ""
    return done.returncode, done.stdout


def of(proxy: Proxy, *options: str) -> tuple[int, str]:
    return health(proxy.folder / "kveil.yaml", *options)


@pytest.fixture
def alone() -> Iterator[Proxy]:
    """A proxy whose cluster isn't there."""
    with kveil_proxy(NOWHERE) as proxy:
        yield proxy


@pytest.mark.parametrize("options", [{}, {"tls": True, "sasl": True}])
async def test_one_that_serves(tmp_path: Path, options):
    async with ScriptedBroker() as broker:

        def look():
            with secured_proxy(f"127.0.0.1:{broker.port}", tmp_path, **options) as listener:
                return listener.proxy.bootstrap, of(listener.proxy)

        bootstrap, found = await asyncio.to_thread(look)
    assert found == (0, f"listener {bootstrap} answers\n")


def test_one_that_wants_a_certificate(tmp_path: Path):
    with secured_proxy(NOWHERE, tmp_path, client_ca=True) as listener:
        text = f"listener {listener.proxy.bootstrap} speaks TLS, and asks for a client certificate\n"
        assert of(listener.proxy) == (0, text)


def test_one_without_its_cluster(alone: Proxy):
    code, text = of(alone)
    assert (code, "the cluster is out of reach" in text) == (1, True)
    assert of(alone, "--live") == (0, text)


async def test_one_whose_cluster_is_silent(tmp_path: Path):
    async with ScriptedBroker() as broker:
        broker.silent.add(ApiKey.API_VERSIONS)

        def look():
            with kveil_proxy(f"127.0.0.1:{broker.port}") as proxy:
                return of(proxy, "--seconds", "0.3")

        code, text = await asyncio.to_thread(look)
    assert code == 1
    assert "gave no answer for 0.3 s" in text


def test_none_that_runs(tmp_path: Path):
    path = tmp_path / "kveil.yaml"
    with reserved_port_range(1) as port:
        path.write_text(f"listeners: [{{address: 127.0.0.1:{port}}}]")
        assert health(path, "--live") == (1, f"listener 127.0.0.1:{port} takes no connection: Connection refused\n")


def test_all_listeners_count(alone: Proxy):
    """One that runs doesn't hide one that doesn't; machines read of both."""
    path = alone.folder / "two.yaml"
    with reserved_port_range(1) as port:
        path.write_text(f"listeners: [{{address: {alone.bootstrap}}}, {{name: other, address: 127.0.0.1:{port}}}]")
        code, text = health(path, "--live", "--json")
    found = json.loads(text)
    assert (code, found["ok"]) == (1, False)
    assert [(one["listener"], one["live"], one["ready"]) for one in found["listeners"]] == [
        (alone.bootstrap, True, False),
        ("other", False, False),
    ]


def test_a_stranger_at_the_port(tmp_path: Path):
    """Whatever holds the port, it isn't taken for a proxy that serves."""
    path = tmp_path / "kveil.yaml"
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        path.write_text(f"listeners: [{{address: 127.0.0.1:{stranger.getsockname()[1]}}}]")
        code, text = health(path, "--seconds", "0.2")
    assert (code, "gave no answer" in text) == (1, True)
