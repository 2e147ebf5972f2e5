"""The admin port's address: loopback only, and nobody else's port."""

import pytest

from kveil.proxy.config import ConfigError, Override, Settings, load

UPSTREAM = {"KVEIL_UPSTREAM__BOOTSTRAP": "broker:9092"}


def at(address: str, **more: str) -> Settings:
    return load(None, {**UPSTREAM, **more}, [Override(path=("admin", "address"), value=address, origin="a test")])


def problems(address: str, **more: str) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as raised:
        at(address, **more)
    return [(problem.path, problem.text) for problem in raised.value.problems]


def test_off_by_default():
    assert load(None, UPSTREAM).admin.address is None


@pytest.mark.parametrize("address", ["127.0.0.1:9600", "localhost:9600", "[::1]:9600", "127.0.0.2:5000"])
def test_addresses_of_this_machine(address):
    assert str(at(address).admin.address) == address


@pytest.mark.parametrize("address", ["0.0.0.0:9600", "[::]:9600", "192.0.2.1:9600", "kveil.example.net:9600"])
def test_others(address):
    ((path, text),) = problems(address)
    assert path == "admin.address"
    assert "use a loopback address" in text


@pytest.mark.parametrize(
    ("address", "owner"), [("127.0.0.1:5000", "listeners[0].address"), ("localhost:5003", "listeners[0].address")]
)
def test_a_listeners_port(address, owner):
    ((path, text),) = problems(address)
    assert path == "admin.address"
    assert f"belongs to {owner} already" in text


def test_the_port_of_a_node():
    ((path, text),) = problems("127.0.0.1:7000", KVEIL_NODES="{500: 7000}")
    assert path == "admin.address"
    assert "belongs to nodes[500] already" in text


def test_told_with_everything_else():
    found = problems("0.0.0.0:9600", KVEIL_WORKERS="0")
    assert {path for path, _ in found} == {"admin.address", "workers"}
