"""How long it takes until something that is wrong is told, by clocks that skip."""

import asyncio
from contextlib import suppress

import pytest

from kveil.protocol.envelope.stream import Kind
from kveil.protocol.identity.credential import SKEW_SECONDS
from kveil.proxy.net import following
from tests.support.announced import World
from tests.support.conversation import Clock
from tests.support.realm import consumes, produces
from tests.support.records import client_batch
from tests.support.skipping import within
from tests.support.told import Log, Member

TOLD_WITHIN = 65.0
LOOKS = 0.2
"""How often what is on the control topic is read, and a consumer asks for more."""


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path, Clock())


@pytest.fixture
def billing(world, tmp_path) -> Member:
    return Member(tmp_path, world, world.members.join("billing", consumes()))


@pytest.fixture
def shop(world, tmp_path, billing) -> Member:
    return Member(tmp_path, world, world.members.join("shop", produces()))


class Slow:
    """A control topic that takes some seconds for every record."""

    def __init__(self, log, seconds):
        self._log, self._seconds = log, seconds

    async def append(self, records):
        await asyncio.sleep(self._seconds)
        await self._log.append(records)


@pytest.mark.parametrize("slow", [0.0, 4.5])
@pytest.mark.parametrize("after", [0.1, 30.0, 54.9, 55.1, 58.0, 115.0])
def test_a_withheld_end_is_told_in_time(world, shop, billing, after, slow):
    """From its acknowledgement on, whenever in a beacon's period that was."""
    log = Log()
    for _ in range(4):
        log.write(shop, client_batch(1))
    world.deliver()
    log.read(billing)
    shop.process.keys.control.log = Slow(shop.process.log, slow)

    async def scenario() -> float:
        telling = asyncio.create_task(following._tell(shop.process.keys, asyncio.Event()))
        began = world.clock()
        acknowledged = None
        while world.clock() - began < after + 100:
            await asyncio.sleep(LOOKS)
            world.deliver()
            if acknowledged is None and world.clock() - began >= after:
                log.write(shop, client_batch(1))
                del log.batches[4:]
                acknowledged = world.clock()
            log.read(billing, 4, end=4)
            if billing.process.keys.streams.alarms:
                break
        telling.cancel()
        with suppress(asyncio.CancelledError):
            await telling
        assert acknowledged is not None, "too early"
        return world.clock() - acknowledged

    took = within(world.clock, scenario())
    assert dict(billing.process.keys.streams.alarms) == {Kind.WITHHELD: 1}
    assert took <= TOLD_WITHIN + 2 * LOOKS


def test_what_is_wrong_with_the_control_topic_is_told_within_seconds(world, billing, audited):
    """What a record shows, and what only time does: of each, how late it is told."""

    def told() -> set[str]:
        return {event["data"]["kind"] for event in audited if event["type"].endswith("identity.alarm")}

    async def until(kind: str) -> float:
        began = world.clock()
        while kind not in told():
            assert world.clock() - began < TOLD_WITHIN
            await asyncio.sleep(LOOKS)
            world.deliver()
        return world.clock() - began

    async def scenario() -> None:
        world.deliver()
        await asyncio.sleep(0.1)
        world.members.publish(world.members.realm.checkpoint(number=1, previous=bytes(32), created=1))
        assert await until("fork") <= 2
        left = world.members.lease + SKEW_SECONDS - (world.clock() - 1000)
        await asyncio.sleep(left - 10)
        world.deliver()
        assert "freeze" not in told()
        assert await until("freeze") <= 10 + 2

    within(world.clock, scenario())
