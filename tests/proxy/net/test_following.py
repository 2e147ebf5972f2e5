"""How often a process says how far it is."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from kveil.protocol.identity.beacon import Beacon
from kveil.protocol.identity.enrolment import Enrolment
from kveil.protocol.identity.record import decode_record
from kveil.proxy.net import following
from tests.support.announced import World
from tests.support.conversation import Clock
from tests.support.realm import consumes, produces

ANSWER = 0.3


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path, Clock())


@pytest.fixture
async def shop(world, monkeypatch):
    monkeypatch.setattr(following, "ANSWER_SECONDS", ANSWER)
    world.members.join("billing", consumes())
    made = world.process(world.members.join("shop", produces()))
    world.deliver()
    await made.seal()
    return made


def beacons(world) -> list[Beacon]:
    found = (decode_record(value, world.members.realm.name) for _, value in world.topic.records if value is not None)
    return [one.body for one in found if not isinstance(one, Enrolment) and isinstance(one.body, Beacon)]


@asynccontextmanager
async def telling(shop):
    asked = asyncio.Event()
    shop.keys.control.when_checkpoint = asked.set
    task = asyncio.get_running_loop().create_task(following._tell(shop.keys, asked))
    yield
    task.cancel()
    await asyncio.wait([task])


async def test_soon_after_a_checkpoint_and_not_more_often(world, shop):
    """It names the checkpoint that asks for it."""
    async with telling(shop):
        await asyncio.sleep(2 * ANSWER)
        assert beacons(world) == []
        for _ in range(5):
            world.members.checkpoint()
            world.deliver()
            await asyncio.sleep(0.01)
        (first,) = beacons(world)
        await asyncio.sleep(3 * ANSWER)
        told = beacons(world)
    newest = len(world.members.realm.checkpoints)
    assert [one.checkpoint.number for one in told] == [first.checkpoint.number, newest]
    assert first.checkpoint.number < newest


async def test_every_minute(world, shop, monkeypatch):
    monkeypatch.setattr(following, "BEACON_SECONDS", 3 * ANSWER)
    async with telling(shop):
        await asyncio.sleep(8 * ANSWER)
    assert len(beacons(world)) >= 2
