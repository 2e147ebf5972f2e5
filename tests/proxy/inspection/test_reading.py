"""A topic's rows by partition: where they begin, how many there are, and what is behind them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.errors import QuestionFailed
from kveil.proxy.inspection.opening import opener
from kveil.proxy.inspection.reading import Part, Wanted, parts_of
from kveil.proxy.inspection.rows import PLAIN, SEALED
from kveil.proxy.net.topic_scan import TopicScan
from tests.support.conversation import COMPACTED, Conversation, make_shared
from tests.support.producing import PRODUCE, sent
from tests.support.records import at_offset, client_batch, fetched, produced, sealed
from tests.support.scripted_broker import ScriptedBroker
from tests.support.scripted_cluster import ScriptedCluster


@pytest.fixture
async def cluster() -> AsyncIterator[ScriptedCluster]:
    async with ScriptedBroker() as first, ScriptedBroker() as second:
        yield ScriptedCluster(first, second)


@pytest.fixture
def shared(cluster, tmp_path):
    return make_shared(tmp_path, upstream=cluster.brokers[0].address)


async def look(shared, *, partition=None, start=lambda first, _: first, limit=20, opens=False, tell=None) -> list[Part]:
    scan = TopicScan(shared, "t")
    await scan.begin()
    wanted = Wanted(partition=partition, start=start, limit=limit)
    async with asyncio.timeout(20):
        if not opens:
            return await parts_of(scan, wanted, None, tell or (lambda _: None))
        async with opener(shared, "t") as opening:
            return await parts_of(scan, wanted, opening, tell or (lambda _: None))


def plain(*offsets: int) -> list[bytes]:
    return [at_offset(client_batch(2), offset) for offset in offsets]


def offsets(part: Part) -> list[int]:
    return [row.first_offset for row, _ in part.rows]


def record_mode(tmp_path, count: int) -> bytes:
    talk = Conversation(tmp_path)
    talk.settings["t"] = COMPACTED
    talk.client(PRODUCE, 9, produced({"t": {0: client_batch(count)}}))
    return sent(talk)["t", 0]


async def test_partitions_come_in_their_order_each_with_its_share(cluster, shared):
    """Whichever broker leads them."""
    cluster.logs = {0: plain(0, 2, 4), 1: plain(10, 12), 2: plain(7)}
    told = []
    found = await look(shared, limit=2, tell=told.append)
    assert [(part.partition, offsets(part), part.goes_on_at, part.first, part.end) for part in found] == [
        (0, [0, 2], 4, 0, 6),
        (1, [10, 12], None, 10, 14),
        (2, [7], None, 7, 9),
    ]
    assert [part.batches for part in found] == [2, 2, 1]
    assert found[2].batch_bytes == len(plain(7)[0])
    assert set(told) == {0, 1, 2}


async def test_one_partition_alone(cluster, shared):
    cluster.logs = {0: plain(0), 1: plain(10)}
    (part,) = await look(shared, partition=1)
    assert (part.partition, offsets(part)) == (1, [10])
    with pytest.raises(QuestionFailed, match="t has no partition 5: it has 2"):
        await look(shared, partition=5)


async def test_it_begins_with_the_batch_that_holds_the_offset(cluster, shared):
    cluster.logs = {0: plain(0, 2, 4)}
    assert offsets((await look(shared, start=lambda _, end: end - 3))[0]) == [2, 4]
    assert offsets((await look(shared, start=lambda _, end: end))[0]) == []


async def test_the_rows_of_a_batch_may_be_shared_out(cluster, shared, tmp_path):
    cluster.logs = {0: [await asyncio.to_thread(record_mode, tmp_path, 10)]}
    (part,) = await look(shared, start=lambda *_: 3, limit=4)
    assert (offsets(part), part.goes_on_at, part.batches) == ([3, 4, 5, 6], 7, 1)
    (rest,) = await look(shared, start=lambda *_: 7, limit=4)
    assert (offsets(rest), rest.goes_on_at) == ([7, 8, 9], None)


async def test_each_row_has_what_is_inside_of_it(cluster, shared, tmp_path):
    stored = await asyncio.to_thread(sealed, shared, "t", 0, client_batch(4))
    cluster.logs = {0: [stored, at_offset(await asyncio.to_thread(record_mode, tmp_path, 2), 4)], 1: plain(0)}
    sealed_part, plain_part = await look(shared, opens=True)
    assert [[offset for offset, _ in inside.records] for _, inside in sealed_part.rows] == [[0, 1, 2, 3], [4], [5]]
    ((row, inside),) = plain_part.rows
    assert (row.kind, inside.records) == (PLAIN, [])
    assert "no envelope" in inside.problem
    later, _ = await look(shared, start=lambda first, _: first + 2, opens=True)
    assert [offset for offset, _ in later.rows[0][1].records] == [2, 3]


async def test_bytes_that_are_no_batch_end_a_partition_only(cluster, shared):
    cluster.logs, cluster.ends = {0: [], 1: plain(0)}, {0: 4}
    cluster.brokers[0].answers[ApiKey.FETCH] = fetched({"t": {0: plain(0)[0] + bytes(100)}})
    first, second = await look(shared)
    assert (offsets(first), first.problem) == (
        [0],
        "what the broker gives can't be told apart: batch length below any batch's",
    )
    assert (offsets(second), second.problem) == ([0], None)


async def test_sealed_batches_stay_closed_without_an_opener(cluster, shared):
    cluster.logs = {0: [await asyncio.to_thread(sealed, shared, "t", 0, client_batch(4))]}
    ((row, inside),) = (await look(shared))[0].rows
    assert (row.kind, inside) == (SEALED, None)
