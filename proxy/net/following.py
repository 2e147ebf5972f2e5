"""Following a topic of the proxy's own for the length of a block."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from kveil.protocol.envelope.key_topic import KEY_TOPIC
from kveil.protocol.identity import CONTROL_TOPIC
from kveil.proxy.context import Shared
from kveil.proxy.keys.record_keys import RecordKeys
from kveil.proxy.net.own_topic import OwnTopic
from kveil.proxy.net.topic_log import TopicLog, TopicReader

if TYPE_CHECKING:
    from kveil.proxy.keys.announced import AnnouncedKeys


@asynccontextmanager
async def following(shared: Shared, keys: RecordKeys) -> AsyncIterator[TopicLog]:
    """Read the key topic, and go on reading, until the block ends."""
    async with _following(TopicLog(shared, OwnTopic(KEY_TOPIC), keys)) as log:
        keys.log = log
        yield log


@asynccontextmanager
async def following_control(shared: Shared, reader: TopicReader) -> AsyncIterator[TopicLog]:
    """Read the control topic, and go on reading, until the block ends."""
    async with _following(TopicLog(shared, OwnTopic(CONTROL_TOPIC), reader)) as log:
        yield log


@asynccontextmanager
async def following_announced(shared: Shared, keys: "AnnouncedKeys") -> AsyncIterator[None]:
    """Have announced keys at hand until the block ends, and their chain left to another process then."""
    async with following_control(shared, keys.control) as log:
        keys.control.log = log
        try:
            yield
        finally:
            keys.close()


@asynccontextmanager
async def _following(log: TopicLog) -> AsyncIterator[TopicLog]:
    task = asyncio.get_running_loop().create_task(log.run())
    try:
        yield log
    finally:
        task.cancel()
        await asyncio.wait([task])
