"""How a trace ends whose request gets no answer."""

from collections.abc import Iterator

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.apis.fetch import Fetch
from tests.support.traces import Traces

FETCH = ApiKey.FETCH
POLL = (FETCH, 11, {"topics": [{"topic": "orders", "partitions": [{"partition": 0}]}]})


@pytest.fixture
def traces() -> Iterator[Traces]:
    made = Traces()
    yield made
    made.provider.shutdown()


async def test_an_answer(run_proxy, traces):
    async with run_proxy(tracer=traces.tracer) as (proxy, broker):
        client = await proxy.client()
        await client.ask(*POLL)
        assert traces.root.status.is_ok
        assert traces.root.attributes["server.address"] == "127.0.0.1"
        assert traces.root.attributes["server.port"] == broker.port


async def test_the_broker_leaves(run_proxy, traces):
    async with run_proxy(tracer=traces.tracer) as (proxy, broker):
        broker.answers[FETCH] = lambda request: request.writer.close()
        client = await proxy.client()
        await client.send(*POLL)
        assert await client.closed() == b""
        await proxy.until_ended(1)
        assert traces.root.status.description == "the broker ended the connection before its answer"
        assert traces.root.attributes["error.type"] == "connection_closed"


async def test_the_client_leaves(run_proxy, traces):
    async with run_proxy(tracer=traces.tracer) as (proxy, broker):
        broker.answers[FETCH] = lambda request: None
        client = await proxy.client()
        await client.send(*POLL)
        await broker.until(lambda b: b.requests)
        await client.close()
        await proxy.until_ended(1)
        assert traces.root.status.is_ok


async def test_the_connection_is_closed_for_a_reason(run_proxy, traces):
    async with run_proxy(tracer=traces.tracer) as (proxy, broker):
        broker.answers[FETCH] = lambda request: bytes(4)
        client = await proxy.client()
        await client.send(*POLL)
        assert await client.closed() == b""
        assert traces.root.status.description == "the broker answered out of order"


async def test_a_defect_of_ours_is_told_by_its_kind_alone(run_proxy, traces, monkeypatch):
    def defect(self, frame):
        raise RuntimeError("s3cret")

    monkeypatch.setattr(Fetch, "response", defect)
    async with run_proxy(tracer=traces.tracer) as (proxy, _):
        client = await proxy.client()
        await client.send(*POLL)
        assert await client.closed() == b""
        assert traces.root.status.description == "RuntimeError"
        assert "s3cret" not in "".join(span.to_json() for span in traces.ended)
