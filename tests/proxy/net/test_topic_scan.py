"""A topic read from end to end: all that is there once, each partition by its leader, and never without an end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.record_batch import read_header
from kveil.proxy.errors import QuestionFailed
from kveil.proxy.net.own_topic import NotThereYet
from kveil.proxy.net.topic_scan import Topic, TopicScan, list_topics
from tests.support.conversation import make_shared, read_request
from tests.support.records import at_offset, client_batch, fetched, legacy, sealed
from tests.support.scripted_broker import ScriptedBroker
from tests.support.scripted_cluster import FAR_NODE, ScriptedCluster


@pytest.fixture
async def cluster() -> AsyncIterator[ScriptedCluster]:
    async with ScriptedBroker() as first, ScriptedBroker() as second:
        yield ScriptedCluster(first, second)


@pytest.fixture
def shared(cluster, tmp_path):
    return make_shared(tmp_path, upstream=cluster.brokers[0].address)


async def read(shared, start: int = 0) -> list[tuple[int, int]]:
    """Partition and offset of every batch."""
    scan = TopicScan(shared, "t")
    await scan.begin()
    async with asyncio.timeout(20):
        return [(partition, read_header(batch).base_offset) async for partition, batch in scan.batches(start)]


def plain(*offsets: int) -> list[bytes]:
    return [at_offset(client_batch(2), offset) for offset in offsets]


async def test_every_batch_comes_once_from_its_leader(cluster, shared):
    """With holes between offsets, as compaction leaves them."""
    cluster.logs = {0: plain(0, 2, 10, 12, 30), 1: plain(5, 7), 2: []}
    assert await read(shared) == [*((0, offset) for offset in (0, 2, 10, 12, 30)), (1, 5), (1, 7)]
    for broker, partitions in zip(cluster.brokers, ({0}, {1}), strict=True):
        asked = [read_request(one.frame)[1] for one in broker.requests if one.header.api_key == ApiKey.FETCH]
        assert {one.topics[0].partitions[0].partition for one in asked} == partitions


async def test_envelopes_come_as_they_are_stored(cluster, shared, tmp_path):
    stored = await asyncio.to_thread(sealed, make_shared(tmp_path), "t", 0, client_batch(3))
    cluster.logs = {0: [stored]}
    scan = TopicScan(shared, "t")
    await scan.begin()
    assert [bytes(batch) async for _, batch in scan.batches(0)] == [stored]


async def test_envelopes_are_opened_where_that_is_wanted(cluster, shared, tmp_path):
    """As for a consumer: what doesn't open is an error."""
    batch = client_batch(3)
    cluster.logs = {0: [await asyncio.to_thread(sealed, make_shared(tmp_path), "t", 0, batch)]}
    scan = TopicScan(shared, "t", opened=True)
    await scan.begin()
    (found,) = [bytes(batch) async for _, batch in scan.batches(0)]
    assert found[61:] == batch[61:]
    cluster.logs = {0: plain(0)}
    with pytest.raises(QuestionFailed, match="corrupt_message"):
        assert [stored async for stored in scan.batches(0)]


async def test_one_partition_alone(cluster, shared):
    cluster.logs = {0: plain(0, 2), 1: plain(5), 2: plain(7)}
    scan = TopicScan(shared, "t")
    await scan.begin()
    assert [(found.partition, read_header(found.batch).base_offset) async for found in scan.batches(0, 2)] == [(2, 7)]
    assert not [one for one in cluster.brokers[1].requests if one.header.api_key == ApiKey.FETCH]


async def test_who_leads_a_partition(cluster, shared):
    cluster.logs = {0: plain(0), 1: plain(5)}
    scan = TopicScan(shared, "t")
    await scan.begin()
    assert [scan.leader_of(partition) for partition in (0, 1, 2)] == [0, FAR_NODE, None]


@pytest.mark.parametrize(("code", "passes"), [(3, True), (5, True), (6, True), (29, False)])
async def test_whether_it_may_be_there_soon(cluster, shared, code, passes):
    cluster.logs, cluster.errors = {0: plain(0)}, {-1: code}
    with pytest.raises(QuestionFailed) as caught:
        await TopicScan(shared, "t").begin()
    assert isinstance(caught.value, NotThereYet) is passes


async def test_it_begins_with_the_batch_that_holds_the_offset(cluster, shared):
    cluster.logs = {0: plain(0, 2, 4), 1: plain(2, 4)}
    assert await read(shared, 3) == [(0, 2), (0, 4), (1, 2), (1, 4)]
    assert await read(shared, 99) == []


async def test_what_comes_again_is_not_counted_again(cluster, shared):
    cluster.logs = {0: plain(0, 2, 4)}
    before = cluster.logs[0]
    for broker in cluster.brokers:
        broker.answers[ApiKey.FETCH] = lambda request: fetched(
            {"t": {0: b"".join(before[: 1 + read_request(request.frame)[1].topics[0].partitions[0].fetch_offset // 2])}}
        )
    assert await read(shared) == [(0, 0), (0, 2), (0, 4)]


async def test_an_end_that_was_compacted_away_is_an_end(cluster, shared):
    cluster.logs, cluster.ends = {0: plain(0, 2)}, {0: 50}
    assert await read(shared) == [(0, 0), (0, 2)]


async def test_a_broker_that_gives_only_what_was_asked_before_is_left(cluster, shared):
    cluster.logs, cluster.ends = {0: plain(0)}, {0: 50}
    repeat = fetched({"t": {0: plain(0)[0]}})
    for broker in cluster.brokers:
        broker.answers[ApiKey.FETCH] = repeat
    with pytest.raises(QuestionFailed, match="no batch of t/0 at offset 2"):
        await read(shared)


@pytest.mark.parametrize(("place", "name"), [(-1, "unknown_topic_or_partition"), (0, "not_leader_or_follower")])
async def test_what_the_broker_refuses_is_told(cluster, shared, place, name):
    cluster.logs = {0: plain(0)}
    cluster.errors = {place: 3 if place < 0 else 6}
    with pytest.raises(QuestionFailed, match=f"t: the broker answered {name}"):
        await read(shared)


async def test_the_clusters_topics_are_listed(cluster, shared):
    assert await list_topics(shared) == [Topic("__consumer_offsets", True), Topic("t", False)]


async def test_a_log_need_not_be_read_to_its_end(cluster, shared):
    """And one partition is asked of its own leader alone."""
    cluster.logs = {0: plain(0), 1: plain(5, 7, 9, 11, 13)}
    cluster.batches_at_a_time = 1
    scan = TopicScan(shared, "t")
    await scan.begin()
    async with asyncio.timeout(20), aclosing(scan.logs(lambda _, end: end - 6, only=1)) as logs:
        async for log in logs:
            assert (log.partition, log.first, log.end) == (1, 5, 15)
            async with aclosing(log.batches) as batches:
                assert read_header(await anext(batches)).base_offset == 9
    asked = [[one.header.api_key for one in broker.requests].count(ApiKey.FETCH) for broker in cluster.brokers]
    assert asked == [0, 1]


async def test_a_partition_that_is_not_there_is_told(cluster, shared):
    cluster.logs = {0: plain(0)}
    scan = TopicScan(shared, "t")
    await scan.begin()
    with pytest.raises(QuestionFailed, match="t has no partition 1: it has 1"):
        await anext(scan.logs(lambda first, _: first, only=1))


async def test_messages_of_an_old_format_are_passed_over_by_their_offset(cluster, shared):
    """They are shorter than a header."""
    old = [(offset).to_bytes(8, "big") + legacy(1)[8:] for offset in (0, 1)]
    cluster.logs, cluster.ends = {0: []}, {0: 4}
    cluster.answer_always(b"".join(old) + plain(2)[0])
    scan = TopicScan(shared, "t")
    await scan.begin()
    found = [bytes(batch[:8]) async for _, batch in scan.batches(0)]
    assert found == [offset.to_bytes(8, "big") for offset in (0, 1, 2)]
