"""Memory stays bounded, whoever is slow (R6)."""

import socket

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.net import leg
from kveil.proxy.net.leg import WRITE_BUFFER_BYTES
from tests.support.conversation import number_of, read_response
from tests.support.loops import on_uvloop
from tests.support.records import fetched, produced

FETCH, PRODUCE = ApiKey.FETCH, ApiKey.PRODUCE
MEGABYTE = bytes(1024 * 1024)
PLAIN = [{"match": "*", "seal": "none"}]
COUNT = 60
MOST = WRITE_BUFFER_BYTES + 6 * len(MEGABYTE)
"""What waits to be sent, one receive buffer of 2 MiB on either side, and the frames that were in one of them."""


def waiting(side):
    return side.transport.get_write_buffer_size() + len(side.frames._data)


async def never_read(proxy, broker):
    """Ask for far more than fits, as a client that reads none of it, until the proxy can't send on."""
    broker.answers[FETCH] = fetched({"t": {0: MEGABYTE}})
    client = await proxy.client()
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.writer.transport.pause_reading()
    for _ in range(COUNT):
        await client.send(FETCH, 12)
    await broker.until(lambda b: len(b.requests) > 0)
    await proxy.until(lambda: proxy.relays[0].client.is_clogged)


@on_uvloop
async def test_a_client_that_reads_slowly(run_proxy):
    async with run_proxy(topics=PLAIN) as (proxy, broker):
        broker.answers[FETCH] = fetched({"t": {0: MEGABYTE}})
        client = await proxy.client()
        client.writer.transport.pause_reading()
        numbers = [await client.send(FETCH, 12) for _ in range(COUNT)]
        await broker.until(lambda b: len(b.requests) > 1)
        relay = proxy.relays[0]
        await proxy.until(lambda: relay.client.is_clogged)
        assert not relay._broker._reading
        assert not relay.client._reading
        assert waiting(relay.client) + waiting(relay._broker) < MOST
        assert broker.sent < COUNT
        client.writer.transport.resume_reading()
        for number in numbers:  # and all of it arrives
            frame = await client.receive()
            assert number_of(frame) == number
            assert read_response(FETCH, 12, frame).responses[0].partitions[0].records == MEGABYTE
            assert waiting(relay.client) + waiting(relay._broker) < MOST
        assert not relay.client.is_clogged


@on_uvloop
async def test_a_broker_that_reads_slowly(run_proxy):
    async with run_proxy(topics=PLAIN) as (proxy, broker):
        broker.may_read.clear()
        client = await proxy.client()
        client.writer.transport.set_write_buffer_limits(high=100 * len(MEGABYTE))
        for _ in range(COUNT):
            await client.send(PRODUCE, 9, produced({"t": {0: MEGABYTE}}))
        await proxy.until(lambda: proxy.relays[0]._broker is not None and proxy.relays[0]._broker.is_clogged)
        relay = proxy.relays[0]
        assert not relay.client._reading
        assert waiting(relay.client) + waiting(relay._broker) < MOST
        assert client.writer.transport.get_write_buffer_size() > 20 * len(MEGABYTE)  # the client has to keep the rest
        broker.may_read.set()
        for _ in range(COUNT):
            await client.receive()
        assert len(broker.requests) == COUNT


@on_uvloop
async def test_a_client_that_never_reads_can_be_ended(run_proxy):
    async with run_proxy(topics=PLAIN) as (proxy, broker):
        await never_read(proxy, broker)
        proxy.relays[0].abort()
        await proxy.until_ended(1)


@on_uvloop
async def test_a_client_that_never_reads_does_not_outlive_its_connection(run_proxy, monkeypatch):
    monkeypatch.setattr(leg, "LINGER_SECONDS", 0.1)
    async with run_proxy(topics=PLAIN) as (proxy, broker):
        await never_read(proxy, broker)
        proxy.relays[0].leg_lost(proxy.relays[0]._broker)
        await proxy.until_ended(1)


@on_uvloop
async def test_a_large_buffer_is_given_back(run_proxy):
    async with run_proxy(topics=PLAIN) as (proxy, broker):
        client = await proxy.client()
        await client.ask(PRODUCE, 9, produced({"t": {0: MEGABYTE * 12}}))
        await client.ask(12, 4)
        assert len(broker.requests[0].frame) > 12 * len(MEGABYTE)
        assert waiting(proxy.relays[0].client) < len(MEGABYTE)
