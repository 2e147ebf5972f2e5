"""A client, a broker and the sockets between them: order, ends, and what is said about them."""

import asyncio
import socket
from struct import pack

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.apis.metadata import Metadata
from kveil.proxy.keys.providers.keyfile import KeyFileProvider
from tests.support.conversation import DELETED, key_file, number_of, read_request, read_response
from tests.support.loops import both_loops
from tests.support.records import client_batch, produced
from tests.support.scripted_broker import frame_of

BEAT = (12, 4)
HEARTBEAT, METADATA, PRODUCE, FETCH = 12, ApiKey.METADATA, ApiKey.PRODUCE, ApiKey.FETCH
BATCHES = [{"match": "*", "mode": "batch"}]


@both_loops
async def test_both_ways(run_proxy):
    async with run_proxy() as (proxy, broker):
        broker.answers[METADATA] = {"brokers": [{"node_id": 2, "host": "b", "port": 9092, "rack": None}]}
        client = await proxy.client()
        answer = read_response(METADATA, 12, await client.ask(METADATA, 12))
        assert [(found.node_id, found.host, found.port) for found in answer.brokers] == [(2, "127.0.0.1", 5003)]


@both_loops
async def test_many_at_once_keep_their_order(run_proxy):
    async with run_proxy(topics=BATCHES) as (proxy, broker):
        proxy.shared.topic_settings.learn("t", DELETED, proxy.shared.now())
        client = await proxy.client()
        numbers = []
        for turn in range(60):
            bad = produced({"t": {0: b"garbage"}})
            numbers.append(await (client.send(PRODUCE, 9, bad) if turn % 3 else client.send(*BEAT)))
        assert [number_of(await client.receive()) for _ in numbers] == numbers
        assert broker.apis() == [HEARTBEAT] * 20


@both_loops
async def test_whatever_comes_before_the_broker_is_there_waits(run_proxy):
    async with run_proxy() as (proxy, broker):
        client = await proxy.client()
        large = {"group_id": "g" * 30_000, "member_id": "m"}  # more than the buffer holds at first
        numbers = [await client.send(HEARTBEAT, 4, large) for _ in range(3)]
        assert [number_of(await client.receive()) for _ in numbers] == numbers
        assert {read_request(request.frame)[1].group_id for request in broker.requests} == {"g" * 30_000}


class TestHeld:
    """While there is no record of what would be done."""

    @both_loops
    async def test_no_further_request_is_taken(self, run_proxy):
        async with run_proxy() as (proxy, broker):
            client = await proxy.client()
            await client.ask(*BEAT)
            proxy.holds = True
            numbers = [await client.send(*BEAT) for _ in range(3)]
            late = await proxy.client()
            numbers_late = [await late.send(*BEAT)]
            await proxy.until(lambda: len(proxy.relays) == 2 and all(relay.in_flight == 0 for relay in proxy.relays))
            await asyncio.sleep(0.05)  # a request that was taken would be there by now
            assert broker.apis() == [HEARTBEAT]
            proxy.holds = False
            for relay in proxy.relays:
                relay.go_on()
            assert [number_of(await client.receive()) for _ in numbers] == numbers
            assert [number_of(await late.receive()) for _ in numbers_late] == numbers_late

    @both_loops
    async def test_no_answer_goes_out(self, run_proxy):
        async with run_proxy() as (proxy, broker):
            broker.silent.add(HEARTBEAT)
            client = await proxy.client()
            number = await client.send(*BEAT)
            await broker.until(lambda found: found.apis() == [HEARTBEAT])
            proxy.holds = True
            await broker.answer_held()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):  # an answer that was passed on would be there by now
                    await client.receive()
            proxy.holds = False
            proxy.relays[0].go_on()
            assert number_of(await client.receive()) == number

    @both_loops
    async def test_nor_what_was_held_up_by_its_own_decision(self, run_proxy, monkeypatch):
        """The request after whose decision there was no record."""
        async with run_proxy() as (proxy, broker):
            client = await proxy.client()
            await client.ask(*BEAT)
            monkeypatch.setattr(Metadata, "request_needs", lambda _: setattr(proxy, "holds", True) or ())
            number = await client.send(METADATA, 12)
            await proxy.until(lambda: proxy.holds)
            await asyncio.sleep(0.05)
            assert broker.apis() == [HEARTBEAT]
            proxy.holds = False
            proxy.relays[0].go_on()
            assert number_of(await client.receive()) == number


class TestEnds:
    @both_loops
    async def test_no_broker(self, run_proxy, dead_ports):
        async with run_proxy(broker=f"127.0.0.1:{dead_ports[0]}") as (proxy, _):
            client = await proxy.client()
            assert await client.closed() == b""
            await proxy.until_ended(1)
            (line,) = proxy.lines("upstream_unreachable")
            assert f"127.0.0.1:{dead_ports[0]}: " in line["reason"]

    @both_loops
    async def test_the_client_leaves(self, run_proxy):
        async with run_proxy() as (proxy, broker):
            client = await proxy.client()
            await client.ask(*BEAT)
            await client.close()
            await broker.until(lambda b: b.ended == 1)
            await proxy.until_ended(1)

    @both_loops
    async def test_the_client_vanishes_in_the_middle_of_a_frame(self, run_proxy):
        async with run_proxy() as (proxy, broker):
            client = await proxy.client()
            await client.ask(*BEAT)
            await client.send_bytes(b"\0\0\x10\0half")
            client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
            client.writer.transport.abort()  # a reset instead of an end
            await broker.until(lambda b: b.ended == 1)
            await proxy.until_ended(1)

    @both_loops
    async def test_the_broker_leaves(self, run_proxy):
        async with run_proxy() as (proxy, broker):
            client = await proxy.client()
            await client.ask(*BEAT)
            broker.requests[0].writer.close()
            assert await client.closed() == b""
            await proxy.until_ended(1)

    @both_loops
    async def test_a_half_open_peer_is_asked_for(self, run_proxy):
        async with run_proxy() as (proxy, _):
            await (await proxy.client()).ask(*BEAT)
            relay = proxy.relays[0]
            for leg in (relay.client, relay._broker):
                sock = leg.transport.get_extra_info("socket")
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60

    @both_loops
    async def test_the_client_leaves_before_the_broker_is_there(self, run_proxy):
        async with run_proxy() as (proxy, broker):
            client = await proxy.client()
            await client.close()
            await proxy.until_ended(1)
            assert broker.requests == []


class TestBadInput:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"\xff\xff\xff\xff", "not Kafka's protocol"),
            (b"GET / HTTP/1.1\r\n\r\n", "HTTP"),
            (b"\x16\x03\x01\x02\x00\x01\x00", "TLS"),
            ((1024 * 1024).to_bytes(4, "big"), "limits.frame_bytes"),
            (frame_of(b"short"), "no room for a header"),
            (frame_of(b"\x01\xf4" + bytes(8)), "unknown API 500"),
            (frame_of(b"\0\4" + bytes(8)), "LeaderAndIsr"),
            (frame_of(pack(">hhihi", 0, 9, 1, 0, 7)), "form of its schema"),
        ],
    )
    @both_loops
    async def test_closes_with_one_line(self, run_proxy, data, reason):
        async with run_proxy(limits={"frame_bytes": 65536}) as (proxy, broker):
            client = await proxy.client()
            await client.send_bytes(data)
            assert await client.closed() == b""
            await proxy.until_ended(1)
            (line,) = proxy.lines("connection_closed")
            assert reason in line["reason"]
            assert broker.requests == []

    @both_loops
    async def test_of_the_broker_closes_too(self, run_proxy):
        async with run_proxy() as (proxy, broker):
            broker.answers[HEARTBEAT] = lambda request: bytes(4)
            client = await proxy.client()
            await client.send(*BEAT)
            assert await client.closed() == b""
            (line,) = proxy.lines("connection_closed")
            assert "out of order" in line["reason"]

    @both_loops
    async def test_answers_before_it_arrive(self, run_proxy):
        async with run_proxy() as (proxy, broker):
            client = await proxy.client()
            number = await client.send(*BEAT)
            await broker.until(lambda b: b.sent == 1)
            assert number_of(await client.receive()) == number
            await client.send_bytes(b"\xff\xff\xff\xff")
            assert await client.closed() == b""

    @both_loops
    async def test_a_defect_of_ours_ends_the_connection_and_nothing_else(self, run_proxy, monkeypatch):
        async with run_proxy() as (proxy, _):
            client, other = await proxy.client(), await proxy.client()

            def defect(self, frame):
                raise RuntimeError("a defect")

            monkeypatch.setattr(Metadata, "response", defect)
            await client.send(METADATA, 12)
            assert await client.closed() == b""
            assert len(proxy.lines("connection_failed")) == 1
            await other.ask(*BEAT)


class TestClosingAfterwards:
    @both_loops
    async def test_a_refusal_without_an_answer(self, run_proxy):
        async with run_proxy(topics=BATCHES) as (proxy, broker):
            proxy.shared.topic_settings.learn("t", DELETED, proxy.shared.now())
            client = await proxy.client()
            await client.send(PRODUCE, 9, produced({"t": {0: client_batch(), 1: b"garbage"}}, acks=0))
            assert await client.closed() == b""
            await broker.until(lambda b: b.ended == 1)
            (request,) = broker.requests
            assert [part.index for part in read_request(request.frame)[1].topic_data[0].partition_data] == [0]
            assert "acks=0" in proxy.lines("connection_closed")[0]["reason"]

    @both_loops
    async def test_a_guest_gets_the_answer_that_names_its_broker(self, run_proxy):
        async with run_proxy(node_id=1) as (proxy, broker):
            broker.answers[METADATA] = {"brokers": [{"node_id": 1, "host": "elsewhere", "port": 9092, "rack": None}]}
            client = await proxy.client()
            await client.send(METADATA, 12)
            frame = (await client.closed())[4:]
            assert [found.port for found in read_response(METADATA, 12, frame).brokers] == [5002]
            assert "another broker" in proxy.lines("connection_closed")[0]["reason"]

    @both_loops
    async def test_a_known_node_is_connected_to_directly(self, run_proxy, dead_ports):
        async with run_proxy(node_id=1, known=1, broker=f"127.0.0.1:{dead_ports[0]}") as (proxy, broker):
            await (await proxy.client()).ask(*BEAT)
            assert broker.apis() == [HEARTBEAT]


class TestDraining:
    @both_loops
    async def test_waits_for_the_answers_under_way(self, run_proxy):
        async with run_proxy() as (proxy, broker):
            broker.silent.add(HEARTBEAT)
            client = await proxy.client()
            numbers = [await client.send(*BEAT) for _ in range(2)]
            await broker.until(lambda b: len(b.held) == 2)
            (relay,) = proxy.relays
            relay.drain()
            assert not relay._closing
            await client.send(*BEAT)  # too late
            await broker.answer_held()
            assert [number_of(await client.receive()) for _ in numbers] == numbers
            assert await client.closed() == b""
            await proxy.until_ended(1)
            assert len(broker.requests) == 2

    @both_loops
    async def test_ends_what_is_idle(self, run_proxy):
        async with run_proxy() as (proxy, broker):
            client = await proxy.client()
            await client.ask(*BEAT)
            proxy.relays[0].drain()
            assert await client.closed() == b""
            await broker.until(lambda b: b.ended == 1)
            assert proxy.lines("connection_closed") == []


class SlowProvider:
    """The real key file's provider, behind a slow line."""

    def __init__(self, provider):
        self._provider = provider
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    def __getattr__(self, name):
        return getattr(self._provider, name)

    async def wrap(self, *arguments):
        self.asked.set()
        await self.may_answer.wait()
        return await self._provider.wrap(*arguments)


class TestSlowKeys:
    @both_loops
    async def test_hold_up_their_own_connection_only(self, run_proxy, tmp_path):
        provider = SlowProvider(KeyFileProvider(key_file(tmp_path)))
        async with run_proxy(topics=BATCHES, provider=provider) as (proxy, broker):
            proxy.shared.topic_settings.learn("t", DELETED, proxy.shared.now())
            slow, other = await proxy.client(), await proxy.client()
            broker.silent.add(FETCH)
            numbers = [await slow.send(FETCH, 12)]
            await broker.until(lambda b: len(b.held) == 1)
            numbers.append(await slow.send(PRODUCE, 9, produced({"t": {0: client_batch()}})))
            await provider.asked.wait()
            numbers.append(await slow.send(*BEAT))
            await other.ask(*BEAT)  # another connection goes on
            await broker.answer_held()  # and so do answers on this one
            assert number_of(await slow.receive()) == numbers[0]
            assert broker.apis() == [FETCH, HEARTBEAT]
            provider.may_answer.set()
            assert [number_of(await slow.receive()) for _ in numbers[1:]] == numbers[1:]
            assert broker.apis() == [FETCH, HEARTBEAT, PRODUCE, HEARTBEAT]

    @both_loops
    async def test_end_with_their_connection(self, run_proxy, tmp_path):
        provider = SlowProvider(KeyFileProvider(key_file(tmp_path)))
        async with run_proxy(topics=BATCHES, provider=provider) as (proxy, _):
            client = await proxy.client()
            await client.send(PRODUCE, 9, produced({"t": {0: client_batch()}}))
            await provider.asked.wait()
            await proxy.until(lambda: not proxy.relays[0].client._reading)
            proxy.relays[0].abort()
            await proxy.until_ended(1)
            provider.may_answer.set()
            await proxy.until(lambda: not proxy.relays[0]._tasks)
