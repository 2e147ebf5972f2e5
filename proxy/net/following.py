"""Following the key topic for the length of a block."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kveil.proxy.context import Shared
from kveil.proxy.keys.record_keys import RecordKeys
from kveil.proxy.net.key_topic import KeyTopicLog


@asynccontextmanager
async def following(shared: Shared, keys: RecordKeys) -> AsyncIterator[KeyTopicLog]:
    """Read the key topic, and go on reading, until the block ends."""
    log = KeyTopicLog(shared, keys)
    keys.log = log
    task = asyncio.get_running_loop().create_task(log.run())
    try:
        yield log
    finally:
        task.cancel()
        await asyncio.wait([task])
