"""How late the event loop is."""

import asyncio
import time

import pytest

from kveil.proxy.admin import lag
from kveil.proxy.admin.lag import LoopLag


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(lag, "TICK_SECONDS", 0.01)


async def test_what_does_not_yield_is_seen(often):
    watched = LoopLag()
    watched.start()
    await asyncio.sleep(0.03)
    time.sleep(0.2)  # noqa: ASYNC251 - what is to be found
    await asyncio.sleep(0.03)
    watched.stop()
    assert 0.1 < watched.seconds < 5


async def test_nothing_is_looked_at_after_the_end(often):
    watched = LoopLag()
    watched.stop()
    watched.start()
    watched.stop()
    time.sleep(0.1)  # noqa: ASYNC251
    await asyncio.sleep(0.05)
    assert watched.seconds == 0
