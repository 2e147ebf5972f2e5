"""Which broker is connected to."""

import socket
from contextlib import ExitStack

import pytest

from kveil.protocol.kafka.framing import KeptBuffers
from kveil.proxy.addresses import Endpoint
from kveil.proxy.budget import BufferBudget
from kveil.proxy.net.leg import Leg
from kveil.proxy.net.upstream import Upstream
from tests.support.conversation import make_shared
from tests.support.loops import both_loops
from tests.support.scripted_broker import ScriptedBroker


class Nobody:
    def leg_connected(self, leg):
        pass

    leg_received = leg_writable = leg_lost = leg_connected


def upstream_of(folder, *addresses, **config):
    shared = make_shared(folder, **config)
    upstream = shared.settings.upstream.model_validate({"bootstrap": addresses})
    return Upstream(shared.settings.model_copy(update={"upstream": upstream}))


def make_leg():
    return Leg(Nobody(), 65536, KeptBuffers(), BufferBudget(1).share(lambda: None))


@both_loops
async def test_the_first_that_answers_and_it_is_remembered(tmp_path, dead_ports):
    async with ScriptedBroker() as broker:
        gone = f"127.0.0.1:{dead_ports[0]}"
        upstream = upstream_of(tmp_path, gone, broker.address)
        leg, endpoint = await upstream.connect(upstream.bootstrap, make_leg)
        assert endpoint == Endpoint("127.0.0.1", broker.port)
        assert [str(found) for found in upstream.bootstrap] == [broker.address, gone]
        leg.abort()
        await broker.until(lambda b: b.ended == 1)


@both_loops
async def test_none_answers(tmp_path, dead_ports):
    upstream = upstream_of(tmp_path, *(f"127.0.0.1:{port}" for port in dead_ports))
    with pytest.raises(OSError, match=f"127.0.0.1:{dead_ports[0]}: .*; 127.0.0.1:{dead_ports[1]}: "):
        await upstream.connect(upstream.bootstrap, make_leg)


@both_loops
async def test_one_that_lets_wait(tmp_path, full_port):
    upstream = upstream_of(tmp_path, f"127.0.0.1:{full_port}", limits={"connect_timeout_seconds": 0.2})
    with pytest.raises(OSError, match=f"127.0.0.1:{full_port}: no answer in time"):
        await upstream.connect(upstream.bootstrap, make_leg)


@pytest.fixture
def full_port():
    """A port whose queue of connections is full: it neither accepts nor refuses."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = listener.getsockname()[1]
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port
