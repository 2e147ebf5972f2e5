"""Where the demo's proxy listens."""

import socket
from contextlib import closing

import pytest

from kveil.proxy.demo.errors import DemoFailed
from kveil.proxy.demo.sidecar import BROKER_PORTS, choose_port
from tests.support.ports import reserved_port_range


@pytest.fixture
def first():
    with reserved_port_range(BROKER_PORTS + 1) as port:
        yield port


def test_the_port_asked_for(first):
    assert choose_port(first) == first


@pytest.mark.parametrize("taken", range(BROKER_PORTS + 1))
def test_a_taken_one_among_them(first, taken):
    with closing(socket.socket()) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", first + taken))
        other.listen()
        assert choose_port(first) != first


def test_no_port_is_left():
    with pytest.raises(DemoFailed, match="5 local ports in a row"):
        choose_port(65_533)
