"""While one client's large answer is opened, others have their turn."""

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy import session
from kveil.proxy.apis import fetch
from tests.support.conversation import DELETED, number_of, read_response
from tests.support.loops import both_loops
from tests.support.records import client_batch, fetched

FETCH = ApiKey.FETCH
BEAT = (12, 4)
COUNT = 5000


@both_loops
async def test_small_requests_are_answered_in_between(run_proxy, monkeypatch):
    for module in (session, fetch):
        monkeypatch.setattr(module, "STEP_BYTES", 1)  # a batch
    batch = client_batch(20)
    async with run_proxy(topics=[{"match": "*", "accept_plain": True}]) as (proxy, broker):
        proxy.shared.topic_settings.learn("t", DELETED, proxy.shared.now())
        broker.answers[FETCH] = fetched({"t": {0: batch * COUNT}})
        large, small = await proxy.client(), await proxy.client()
        await small.ask(*BEAT)
        await large.send(FETCH, 12)
        await proxy.until(lambda: any(relay._session.has_begun for relay in proxy.relays))
        (busy,) = [relay for relay in proxy.relays if relay._session.has_begun]
        for _ in range(3):
            await small.ask(*BEAT)
            assert busy._session.has_begun, "the small request waited for the whole of the large answer"
        frame = await large.receive()
        assert number_of(frame) == 1
        assert len(read_response(FETCH, 12, frame).responses[0].partitions[0].records) == len(batch) * COUNT
        await large.ask(*BEAT)


@both_loops
async def test_the_client_leaves_meanwhile(run_proxy, monkeypatch):
    for module in (session, fetch):
        monkeypatch.setattr(module, "STEP_BYTES", 1)
    async with run_proxy(topics=[{"match": "*", "accept_plain": True}]) as (proxy, broker):
        broker.answers[FETCH] = fetched({"t": {0: client_batch(20) * COUNT}})
        client = await proxy.client()
        await client.send(FETCH, 12)
        await proxy.until(lambda: proxy.relays and proxy.relays[0]._session.has_begun)
        client.writer.transport.abort()
        await proxy.until_ended(1)
        assert proxy.lines("connection_failed") == []
