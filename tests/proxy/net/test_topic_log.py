"""Following a topic: what is read twice on purpose."""

import asyncio
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from kveil.proxy.net.own_topic import EARLIEST, Fetched
from kveil.proxy.net.topic_log import TopicLog

RECORDS = [(0, b"a", b"1"), (1, b"b", b"2")]


class Topic:
    """Two records, and then none for ever."""

    name = "_own"

    def __init__(self, records=RECORDS, most=None):
        self.records = list(records)
        self.asked = []
        self._most = most
        self._wanted = 0
        self._is_asked = asyncio.Event()

    async def is_asked(self, times):
        """Return when it was asked so often from now on."""
        self._is_asked.clear()
        self._wanted = len(self.asked) + times
        await self._is_asked.wait()

    async def find_leader(self, client):
        return 1

    async def find_offset(self, client, which):
        return 0 if which == EARLIEST else len(self.records)

    async def fetch(self, client, position, *, wait_seconds=5.0):
        self.asked.append(position)
        if len(self.asked) >= self._wanted:
            self._is_asked.set()
        await asyncio.sleep(0)
        some = self.records[position:][: self._most]
        return Fetched(some, position + len(some), len(self.records))

    async def produce(self, client, records, timestamp_ms):
        self.records += [(len(self.records) + at, *record) for at, record in enumerate(records)]
        return len(self.records)


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


async def test_who_writes_meanwhile_does_not_wait_for_all_of_it():
    """A record at a time, of which there are many."""
    many = [(at, b"k", b"%d" % at) for at in range(100)]
    topic, reader = Topic(many, most=1), Reader()
    log = TopicLog(SimpleNamespace(unix_time=time.time), topic, reader)
    reader.log = SimpleNamespace(read_again=lambda: None)
    task = asyncio.create_task(log.run())
    async with asyncio.timeout(10):
        await log.catch_up()
        log.read_again()
        await topic.is_asked(10)
        await log.append([(b"k", b"new")])
        assert len(reader.applied) < 2 * len(many), "it was still being read"
        await topic.is_asked(2 * len(many))
    task.cancel()
    await asyncio.wait([task])
    assert [reader.applied.count(record) for record in many] == [2] * len(many)


async def test_a_broker_that_has_nothing_any_more_ends_it():
    topic, reader = Topic(), Reader()
    log = TopicLog(SimpleNamespace(), topic, reader)
    reader.log = SimpleNamespace(read_again=lambda: None)
    task = asyncio.create_task(log.run())
    async with asyncio.timeout(10):
        await log.catch_up()
        topic.records, begin = [], len(topic.asked)
        log.read_again()
        await topic.is_asked(10)
    task.cancel()
    await asyncio.wait([task])
    assert topic.asked[begin:].count(0) == 1
