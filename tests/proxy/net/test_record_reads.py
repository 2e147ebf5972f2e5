"""Reads of the proxy's own for a lookup by time, over sockets: what is asked, when, and what the broker may answer."""

import asyncio

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.net import questions
from tests.support.conversation import make_shared, read_request, read_response
from tests.support.loops import both_loops
from tests.support.raw_client import batch
from tests.support.records import fetched, sealed
from tests.support.scripted_broker import describe_configs, everything_offered

VERSIONS, CONFIGS, LIST_OFFSETS, FETCH, HEARTBEAT = (
    ApiKey.API_VERSIONS,
    ApiKey.DESCRIBE_CONFIGS,
    ApiKey.LIST_OFFSETS,
    ApiKey.FETCH,
    12,
)
T = 1_700_000_000_000
EARLIEST = -2
EARLY, EXACT = (0, T + 9), (2, T + 9)


@pytest.fixture
async def stored(tmp_path):
    """A sealed batch whose third record is the one that is looked for."""
    plain = batch([b"value"] * 3, timestamp_ms=[T + 5, T + 1, T + 9])
    return await asyncio.to_thread(sealed, make_shared(tmp_path), "t", 0, plain)


def wanted(at=T + 6, level=0):
    partitions = [{"partition_index": 0, "current_leader_epoch": -1, "timestamp": at}]
    return {"replica_id": -1, "isolation_level": level, "topics": [{"name": "t", "partitions": partitions}]}


def offset_at(offset, at, error=0, **more):
    partitions = [{"partition_index": 0, "offset": offset, "timestamp": at, "leader_epoch": 3, "error_code": error}]
    return {"topics": [{"name": "t", "partitions": partitions}], **more}


def found(frame):
    part = read_response(LIST_OFFSETS, 7, frame).topics[0].partitions[0]
    return part.offset, part.timestamp


def ready(broker, records, *, begin=0):
    """Give these records, from the log start on."""

    def offsets(request):
        _, asked = read_request(request.frame)
        at = asked.topics[0].partitions[0].timestamp
        return offset_at(begin, -1) if at == EARLIEST else offset_at(*EARLY)

    def fetch(request):
        _, asked = read_request(request.frame)
        if asked.topics and asked.topics[0].partitions[0].fetch_offset < begin:
            return failing(1)
        return fetched({"t": {0: records}})

    broker.answers |= {LIST_OFFSETS: offsets, FETCH: fetch}


def failing(error, partition=0):
    values = fetched({"t": {partition: b""}})
    values["responses"][0]["partitions"][0] |= {"error_code": error, "high_watermark": -1}
    return values


@both_loops
async def test_the_batch_is_read_and_the_record_found(run_proxy, stored):
    async with run_proxy() as (proxy, broker):
        ready(broker, stored)
        client = await proxy.client()
        assert found(await client.ask(LIST_OFFSETS, 7, wanted(level=1))) == EXACT
        assert broker.apis() == [LIST_OFFSETS, VERSIONS, FETCH]
        header, asked = read_request(broker.requests[2].frame)
        assert (header.api_version, header.client_id) == (12, "app")
        assert (asked.replica_id, asked.session_id, asked.session_epoch) == (-1, 0, -1)
        assert (asked.max_wait.total_seconds(), asked.min_bytes, asked.isolation_level) == (0, 0, 1)
        (partition,) = asked.topics[0].partitions
        assert (asked.topics[0].topic, partition.partition, partition.fetch_offset) == ("t", 0, 0)
        assert partition.partition_max_bytes == 1_048_588
        assert found(await client.ask(LIST_OFFSETS, 7, wanted())) == EXACT  # and the key is known
        assert broker.apis()[3:] == [LIST_OFFSETS, FETCH]


@both_loops
async def test_versions_and_sizes_are_the_brokers(run_proxy, stored):
    async with run_proxy() as (proxy, broker):
        ready(broker, stored)
        broker.answers[VERSIONS] = everything_offered(Fetch=(4, 9))
        broker.answers[CONFIGS] = lambda request: describe_configs(request, **{"max.message.bytes": "5000000"})
        client = await proxy.client()
        await client.ask(VERSIONS, 3)
        await client.ask(ApiKey.PRODUCE, 9, {"acks": -1, "topic_data": [{"name": "t", "partition_data": []}]})
        assert found(await client.ask(LIST_OFFSETS, 7, wanted())) == EXACT
        header, asked = read_request(broker.requests[-1].frame)
        assert header.api_version == 9
        assert asked.topics[0].partitions[0].partition_max_bytes == 5_000_000


@both_loops
async def test_later_requests_wait_until_it_is_answered(run_proxy, stored):
    """Else the read would stand behind the client's own Fetch, which may wait for records."""
    async with run_proxy() as (proxy, broker):
        ready(broker, stored)
        broker.silent.add(FETCH)
        client = await proxy.client()
        numbers = [
            await client.send(HEARTBEAT, 4),
            await client.send(LIST_OFFSETS, 7, wanted()),
            await client.send(FETCH, 12, {"max_wait": 30_000}),
            await client.send(HEARTBEAT, 4),
        ]
        answers = [await client.receive()]
        await broker.until(lambda b: b.held)
        assert broker.apis() == [HEARTBEAT, LIST_OFFSETS, VERSIONS, FETCH]
        assert read_request(broker.requests[3].frame)[1].max_wait.total_seconds() == 0
        await broker.answer_held()
        answers += [await client.receive() for _ in range(3)]
        assert [int.from_bytes(frame[:4], "big") for frame in answers] == numbers
        assert found(answers[1]) == EXACT
        assert broker.apis()[4:] == [FETCH, HEARTBEAT]


@both_loops
async def test_it_waits_for_an_earlier_fetch_as_any_request(run_proxy, stored):
    async with run_proxy() as (proxy, broker):
        ready(broker, stored)
        broker.silent |= {FETCH, LIST_OFFSETS}
        client = await proxy.client()
        await client.send(FETCH, 12, {"max_wait": 30_000})
        await client.send(LIST_OFFSETS, 7, wanted())
        await broker.until(lambda b: len(b.held) == 2)
        await broker.answer_held()
        await client.receive()
        assert found(await client.receive()) == EXACT


@both_loops
async def test_a_log_that_starts_later(run_proxy, stored):
    async with run_proxy() as (proxy, broker):
        ready(broker, stored, begin=1)
        client = await proxy.client()
        assert found(await client.ask(LIST_OFFSETS, 7, wanted(-3))) == EXACT
        assert broker.apis() == [LIST_OFFSETS, VERSIONS, FETCH, LIST_OFFSETS, FETCH]
        assert read_request(broker.requests[-1].frame)[1].topics[0].partitions[0].fetch_offset == 1


@pytest.mark.parametrize(("level", "reads", "answer"), [(0, 2, (1, T + 9)), (1, 1, (-1, -1))])
@both_loops
async def test_where_the_end_is(run_proxy, tmp_path, level, reads, answer):
    """Behind the last stable offset there is nothing for committed readers. Others look there, here in vain."""
    plain = batch([b"value"] * 2, timestamp_ms=[T + 9, T])
    both = await asyncio.to_thread(sealed, make_shared(tmp_path), "t", 0, plain)
    async with run_proxy() as (proxy, broker):
        values = fetched({"t": {0: both}})
        values["responses"][0]["partitions"][0] |= {"high_watermark": 100, "last_stable_offset": 2}
        broker.answers[FETCH] = values
        broker.answers[LIST_OFFSETS] = offset_at(1, T + 9)
        client = await proxy.client()
        assert found(await client.ask(LIST_OFFSETS, 7, wanted(level=level))) == answer
        assert broker.apis().count(FETCH) == reads


@both_loops
async def test_throttling_is_told_to_the_client(run_proxy, stored):
    async with run_proxy() as (proxy, broker):
        ready(broker, stored, begin=1)
        fetch, offsets = broker.answers[FETCH], broker.answers[LIST_OFFSETS]
        broker.answers[FETCH] = lambda request: {**fetch(request), "throttle_time": 100}
        broker.answers[LIST_OFFSETS] = lambda request: {**offsets(request), "throttle_time": 7}
        client = await proxy.client()
        frame = await client.ask(LIST_OFFSETS, 7, wanted())
        assert read_response(LIST_OFFSETS, 7, frame).throttle_time.total_seconds() == 0.214


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (failing(29), "error 29"),
        (failing(6), "error 6"),
        (failing(0, partition=1), "leaves the partition out"),
        (fetched({"u": {0: b""}}), "leaves the partition out"),
        (fetched({}), "leaves the partition out"),
        (lambda r: r.header.correlation_id.to_bytes(4, "big") + b"garbage", "beyond its message"),
        (fetched({"t": {0: b""}}), "no batch"),
        (fetched({"t": {0: b"garbage" * 30}}), ""),
        (failing(1), "error 1"),
    ],
    ids=["not allowed", "moved", "another partition", "another topic", "none", "damaged", "empty", "garbage", "gone"],
)
@both_loops
async def test_what_the_broker_may_say(run_proxy, stored, answer, reason):
    async with run_proxy() as (proxy, broker):
        ready(broker, stored)
        broker.answers[FETCH] = answer
        client = await proxy.client()
        assert found(await client.ask(LIST_OFFSETS, 7, wanted())) == EARLY
        (line,) = proxy.lines("time_lookup_early")
        assert (line["topic"], line["partition"]) == ("t", 0)
        assert reason in line["reason"]
        await client.ask(HEARTBEAT, 4)  # the connection goes on


@pytest.mark.parametrize("offered", [{"Fetch": (13, 17)}, {"Fetch": (0, -1)}], ids=["by id only", "none"])
@both_loops
async def test_a_broker_that_has_no_such_fetch(run_proxy, stored, offered):
    async with run_proxy() as (proxy, broker):
        ready(broker, stored)
        broker.answers[VERSIONS] = everything_offered(**offered)
        client = await proxy.client()
        assert found(await client.ask(LIST_OFFSETS, 7, wanted())) == EARLY
        assert FETCH not in broker.apis()


@both_loops
async def test_a_broker_that_does_not_answer(run_proxy, stored, monkeypatch):
    monkeypatch.setattr(questions, "ANSWER_SECONDS", 0.05)
    async with run_proxy() as (proxy, broker):
        ready(broker, stored)
        broker.silent.add(FETCH)
        client = await proxy.client()
        assert found(await client.ask(LIST_OFFSETS, 7, wanted())) == EARLY
        await broker.answer_held()  # late, and of no more use; the queue is in order all the same
        assert found(await client.ask(LIST_OFFSETS, 7, wanted())) == EXACT


@both_loops
async def test_the_connection_ends_while_it_reads(run_proxy, stored):
    async with run_proxy() as (proxy, broker):
        ready(broker, stored)
        broker.silent.add(FETCH)
        client = await proxy.client()
        await client.send(LIST_OFFSETS, 7, wanted())
        await broker.until(lambda b: b.held)
        await client.close()
        await broker.answer_held()
        await proxy.until_ended(1)
        assert proxy.lines("connection_failed") == []
