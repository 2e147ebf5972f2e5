"""Following a topic of the proxy's own for the length of a block."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from kveil.protocol.envelope.key_topic import KEY_TOPIC
from kveil.protocol.identity import CONTROL_TOPIC
from kveil.proxy.context import Shared
from kveil.proxy.identity.control import ALARM_SECONDS
from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable
from kveil.proxy.keys.record_keys import RecordKeys
from kveil.proxy.log import get_logger, log_limited
from kveil.proxy.net.control import NOT_THERE
from kveil.proxy.net.own_topic import OwnTopic
from kveil.proxy.net.topic_log import TopicLog, TopicReader

if TYPE_CHECKING:
    from kveil.proxy.keys.announced import AnnouncedKeys

# How often a producer says how far it is. With the time that this may take, and the grace that readers give what is on
# its way to them, what is withheld at the end shows within 65 s.
BEACON_SECONDS: Final = 55.0
# How soon it says so again where it was asked: an authority asks by a new checkpoint.
ANSWER_SECONDS: Final = 1.0
# How long that may take, at the end too.
TELL_SECONDS: Final = 5.0
_log = get_logger(__name__)


@asynccontextmanager
async def following(shared: Shared, keys: RecordKeys) -> AsyncIterator[TopicLog]:
    """Read the key topic, and go on reading, until the block ends."""
    async with _following(TopicLog(shared, OwnTopic(KEY_TOPIC), keys)) as log:
        keys.log = log
        yield log


@asynccontextmanager
async def following_control(shared: Shared, reader: TopicReader) -> AsyncIterator[TopicLog]:
    """Read the control topic, and go on reading, until the block ends."""
    async with _following(TopicLog(shared, OwnTopic(CONTROL_TOPIC, absent=NOT_THERE), reader)) as log:
        yield log


@asynccontextmanager
async def following_announced(shared: Shared, keys: "AnnouncedKeys") -> AsyncIterator[None]:
    """Have announced keys at hand until the block ends, and their chain left to another process then."""
    async with following_control(shared, keys.control) as log:
        keys.control.log = log
        asked = asyncio.Event()
        keys.control.when_checkpoint = asked.set
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(_tell(keys, asked)), loop.create_task(_look(keys))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await _tell_once(keys, last=True)
            keys.close()


async def _tell(keys: "AnnouncedKeys", asked: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time() + BEACON_SECONDS
    while True:
        await asyncio.sleep(ANSWER_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                await asked.wait()
        asked.clear()
        due = min(due, loop.time()) + BEACON_SECONDS  # not later for what the last one took
        await _tell_once(keys)


async def _look(keys: "AnnouncedKeys") -> None:
    """Tell what is wrong with the topic, also while nothing is heard of it."""
    while True:
        await asyncio.sleep(ALARM_SECONDS)
        keys.control.look()


async def _tell_once(keys: "AnnouncedKeys", *, last: bool = False) -> None:
    try:
        async with asyncio.timeout(TELL_SECONDS):
            await keys.tell(last=last)
    except (KeyDenied, KeyUnavailable, TimeoutError) as error:
        log_limited(_log.warning, "beacon_failed", reason=str(error) or "the cluster doesn't answer")


@asynccontextmanager
async def _following(log: TopicLog) -> AsyncIterator[TopicLog]:
    task = asyncio.get_running_loop().create_task(log.run())
    try:
        yield log
    finally:
        task.cancel()
        await asyncio.wait([task])
