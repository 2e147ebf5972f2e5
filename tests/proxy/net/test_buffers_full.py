"""Large frames share a budget: those that come when it is used up wait, everything else goes on."""

import socket

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy import session
from tests.support.conversation import number_of, read_response
from tests.support.loops import both_loops, on_uvloop
from tests.support.records import client_batch, fetched, produced

FETCH, PRODUCE, CONFIGS = ApiKey.FETCH, ApiKey.PRODUCE, ApiKey.DESCRIBE_CONFIGS
BEAT = (12, 4)
MEGABYTE = bytes(1024 * 1024)
LARGE = 12 * MEGABYTE
PLAIN = [{"match": "*", "seal": "none"}]
LEAST = {"buffered_bytes": len(MEGABYTE)}


async def stop_reading(client):
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
    client.writer.transport.pause_reading()


async def a_client(proxy):
    """One that keeps what the proxy doesn't read yet."""
    client = await proxy.client()
    client.writer.transport.set_write_buffer_limits(high=100 * len(MEGABYTE))
    return client


async def full(proxy, broker):
    """A client that has the whole budget, since it doesn't read its answer; and one that waits for it."""
    broker.answers[FETCH] = fetched({"t": {0: LARGE}})
    slow, other = await proxy.client(), await proxy.client()
    await stop_reading(slow)
    await slow.send(FETCH, 12)
    await proxy.until(lambda: proxy.relays and proxy.relays[0].client.is_clogged)
    await other.send(FETCH, 12)
    await proxy.until(lambda: proxy.relays[1]._broker is not None and proxy.relays[1]._broker.waits_for_room)
    return slow, other


def records_of(frame):
    return read_response(FETCH, 12, frame).responses[0].partitions[0].records


@on_uvloop
async def test_a_large_answer_waits_until_the_one_before_has_left(run_proxy):
    async with run_proxy(topics=PLAIN, limits=LEAST) as (proxy, broker):
        slow, other = await full(proxy, broker)
        assert not proxy.relays[1]._broker._reading
        assert len(proxy.relays[1]._broker.frames._data) <= 2 * 1024 * 1024, "it was received all the same"
        slow.writer.transport.resume_reading()
        assert records_of(await slow.receive()) == LARGE
        assert records_of(await other.receive()) == LARGE


@on_uvloop
async def test_the_log_says_so(run_proxy):
    async with run_proxy(topics=PLAIN, limits=LEAST) as (proxy, broker):
        await full(proxy, broker)
        (line,) = proxy.lines("buffers_full")
        assert line["buffered_bytes"] == len(MEGABYTE)
        assert "limits.buffered_bytes" in line["why"]
        assert "fetch.max.bytes" in line["why"]


@on_uvloop
async def test_ordinary_frames_pass_meanwhile(run_proxy):
    async with run_proxy(topics=PLAIN, limits=LEAST) as (proxy, broker):
        await full(proxy, broker)
        third = await proxy.client()
        for _ in range(3):
            await third.ask(PRODUCE, 9, produced({"t": {0: MEGABYTE}}))
            await third.ask(*BEAT)


@on_uvloop
async def test_the_end_of_a_connection_gives_its_part_back(run_proxy):
    async with run_proxy(topics=PLAIN, limits=LEAST) as (proxy, broker):
        slow, other = await full(proxy, broker)
        slow.writer.transport.abort()
        assert records_of(await other.receive()) == LARGE
        assert proxy.shared.budget.has_room


@on_uvloop
async def test_one_that_waits_may_end(run_proxy):
    async with run_proxy(topics=PLAIN, limits=LEAST) as (proxy, broker):
        slow, other = await full(proxy, broker)
        other.writer.transport.abort()
        await proxy.until_ended(1)
        slow.writer.transport.resume_reading()
        await slow.receive()
        await proxy.until(lambda: proxy.shared.budget.has_room)


@both_loops
async def test_a_client_that_stops_in_the_middle(run_proxy):
    async with run_proxy(topics=PLAIN, limits=LEAST) as (proxy, _):
        stuck, other = await a_client(proxy), await a_client(proxy)
        await stuck.ask(*BEAT)
        await stuck.send_bytes(len(LARGE).to_bytes(4, "big") + MEGABYTE)
        await proxy.until(lambda: not proxy.shared.budget.has_room)
        await other.send(PRODUCE, 9, produced({"t": {0: LARGE}}))
        await proxy.until(lambda: proxy.relays[1].client.waits_for_room)
        await stuck.close()
        assert number_of(await other.receive()) == 1


@both_loops
async def test_a_parked_frame_keeps_its_part(run_proxy):
    """It waits for the topic's settings, as a copy."""
    async with run_proxy(limits=LEAST) as (proxy, broker):
        broker.silent.add(CONFIGS)
        parked, other = await a_client(proxy), await a_client(proxy)
        large = produced({"t": dict.fromkeys(range(10), client_batch(10_000))})
        await parked.send(PRODUCE, 9, large)
        await broker.until(lambda b: CONFIGS in b.apis())
        assert not proxy.shared.budget.has_room
        await other.send(PRODUCE, 9, large)
        await proxy.until(lambda: len(proxy.relays) == 2 and proxy.relays[1].client.waits_for_room)
        await broker.answer_held()
        for client in (parked, other):
            assert number_of(await client.receive()) == 1
        assert broker.apis().count(PRODUCE) == 2


@both_loops
async def test_many_large_frames_on_few_connections(run_proxy):
    """Both ways at once, with a budget for one of them: all arrive, and all of the budget is there again."""
    async with run_proxy(topics=PLAIN, limits=LEAST) as (proxy, broker):
        broker.answers[FETCH] = fetched({"t": {0: 3 * MEGABYTE}})
        clients = [await a_client(proxy) for _ in range(4)]
        for _ in range(3):
            for client in clients:
                await client.send(PRODUCE, 9, produced({"t": {0: 2 * MEGABYTE}}))
                await client.send(FETCH, 12)
        for client in clients:
            assert [number_of(await client.receive()) for _ in range(6)] == [1, 2, 3, 4, 5, 6]
        await proxy.until(lambda: proxy.shared.budget.has_room)
        assert not any(relay._share.is_used for relay in proxy.relays)


@both_loops
async def test_requests_that_nobody_answers_stay_with_the_client(run_proxy, monkeypatch):
    monkeypatch.setattr(session, "MAX_IN_FLIGHT", 10)
    async with run_proxy() as (proxy, broker):
        broker.silent.add(BEAT[0])
        client = await proxy.client()
        numbers = [await client.send(*BEAT) for _ in range(35)]
        await broker.until(lambda b: len(b.held) == 10)
        await proxy.until(lambda: not proxy.relays[0].client._reading)
        assert len(broker.requests) == 10
        await broker.answer_held()
        assert [number_of(await client.receive()) for _ in numbers] == numbers


def test_clients_may_send_as_many_ahead_as_they_do_by_default():
    """Five of Java's; librdkafka's consumer has one Fetch and a few others."""
    assert session.MAX_IN_FLIGHT >= 200


@pytest.mark.parametrize("limit", ["frame_bytes", "buffered_bytes"])
def test_no_limit_is_below_an_ordinary_frame(limit):
    from kveil.proxy.config.models import Limits

    with pytest.raises(ValueError, match="greater than or equal"):
        Limits.model_validate({limit: 1000})
