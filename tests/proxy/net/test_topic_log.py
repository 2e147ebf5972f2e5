"""Following a topic: what is read twice on purpose."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from kveil.proxy.net.own_topic import EARLIEST, Fetched
from kveil.proxy.net.topic_log import TopicLog

RECORDS = [(0, b"a", b"1"), (1, b"b", b"2")]


class Topic:
    """Two records, and then none for ever."""

    name = "_own"

    def __init__(self):
        self.asked = []

    async def find_leader(self, client):
        return 1

    async def find_offset(self, client, which):
        return 0 if which == EARLIEST else len(RECORDS)

    async def fetch(self, client, position):
        self.asked.append(position)
        await asyncio.sleep(0)
        return Fetched(RECORDS[position:], len(RECORDS), len(RECORDS))


class Reader:
    """Asks for all of it once more, the first time that it has heard all."""

    def __init__(self):
        self.log = None
        self.applied = []
        self.heard_at = []
        self.done = asyncio.Event()

    async def get_ready(self):
        pass

    def apply(self, offset, key, value):
        self.applied.append((offset, key, value))

    def heard(self):
        self.heard_at.append(len(self.applied))
        if len(self.heard_at) == 1:
            self.log.read_again()
        if len(self.applied) >= 2 * len(RECORDS):
            self.done.set()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    @asynccontextmanager
    async def own_client(shared, node_id=None):
        yield None

    monkeypatch.setattr("kveil.proxy.net.topic_log.own_client", own_client)


async def test_a_reader_may_ask_for_the_topics_start_once_more():
    topic, reader = Topic(), Reader()
    reader.log = log = TopicLog(SimpleNamespace(), topic, reader)
    task = asyncio.create_task(log.run())
    async with asyncio.timeout(10):
        await reader.done.wait()
        await log.catch_up()
    task.cancel()
    await asyncio.wait([task])
    assert reader.applied == RECORDS * 2
    assert topic.asked[:2] == [0, 0]
    assert set(topic.asked[2:]) <= {len(RECORDS)}
