"""A worker's end of the channel in its event loop."""

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from kveil.proxy.workers import channel as channel_module
from kveil.proxy.workers.channel import Channel
from kveil.proxy.workers.link import ParentLink
from tests.support.loops import both_loops


@asynccontextmanager
async def linked():
    """The parent's end, the link, and what it heard."""
    near, far = socket.socketpair()
    parent, heard, lost = Channel(near), asyncio.Queue(), asyncio.Event()
    link = ParentLink(far, heard.put_nowait, lost.set)
    link.start()
    link.heard, link.lost = heard, lost
    try:
        yield parent, link
    finally:
        parent.close()
        await asyncio.wait_for(lost.wait(), 5)
        link._channel.close()


async def received(parent, count=1):
    """What the parent's end gets."""
    found = []
    while len(found) < count:
        await asyncio.sleep(0.001)
        found += parent.receive()
    return found


@both_loops
async def test_answers_find_their_questions():
    async with linked() as (parent, link):
        asked = [asyncio.create_task(link.ask("names", ids=[number])) for number in range(3)]
        questions = await received(parent, 3)
        for message in reversed(questions):
            parent.send("answer", number=message.values["number"], answer=message.values["ids"])
        assert await asyncio.gather(*asked) == [[0], [1], [2]]


@both_loops
async def test_an_answer_that_nobody_waits_for_any_more():
    async with linked() as (parent, link):
        gone = asyncio.create_task(link.ask("names", ids=[1]))
        (question,) = await received(parent)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        parent.send("answer", number=question.values["number"], answer=[])
        parent.send("reload")
        assert (await link.heard.get()).kind == "reload"


@both_loops
async def test_what_waits_is_sent_when_the_parent_reads():
    async with linked() as (parent, link):
        topics = ["x" * 200] * 20_000
        link.tell("drop", topics=topics)
        flushed = asyncio.create_task(link.flushed())
        await asyncio.sleep(0.02)
        assert not flushed.done()
        (message,) = await received(parent)
        assert message.values["topics"] == topics
        await asyncio.wait_for(flushed, 5)
        link.tell("report")
        assert [message.kind for message in await received(parent)] == ["report"]


@both_loops
async def test_a_parent_that_does_not_read(monkeypatch):
    monkeypatch.setattr(channel_module, "MAX_WAITING_BYTES", 1_000_000)
    async with linked() as (_, link):
        link.tell("drop", topics=["x" * 900_000])
        assert not link.lost.is_set()
        link.tell("drop", topics=["x" * 900_000])
        assert link.lost.is_set()


@pytest.mark.parametrize("said", [0, 3])
@both_loops
async def test_the_parents_end(said):
    async with linked() as (parent, link):
        for _ in range(said):
            parent.send("reload")
        parent.close()
        await asyncio.wait_for(link.lost.wait(), 5)
        assert link.heard.qsize() == said
