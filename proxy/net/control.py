"""The control topic for commands: followed and written by the configuration's own login, without any key."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from kveil.protocol.identity import CONTROL_TOPIC
from kveil.proxy.addresses import Brokers
from kveil.proxy.admin.metrics import Metrics
from kveil.proxy.budget import BufferBudget
from kveil.proxy.config import Seal, Settings, TopicRule
from kveil.proxy.context import Shared
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.keys.errors import KeyUnavailable
from kveil.proxy.keys.realm import Realm
from kveil.proxy.keys.ring import KeyRing
from kveil.proxy.net.own_topic import OwnTopic
from kveil.proxy.net.topic_log import TopicLog, TopicReader
from kveil.proxy.policy import Policy
from kveil.proxy.topics import SettingsCache, TopicNames

NOT_THERE: Final = (
    f"there is no topic {CONTROL_TOPIC}: is this the realm's cluster? `kveil authority run` or `checkpoint` makes it"
)


class ControlUnusable(IdentityError):
    """The control topic can't be read or written. The text says why, and the way out."""

    exit_code = 1


@asynccontextmanager
async def control_topic(settings: Settings, reader: TopicReader, *, make: bool = False) -> AsyncIterator[TopicLog]:
    """Follow the topic for the length of a block, which begins when it was read to its end.

    With `make` the topic is made if it isn't there. KeyUnavailable of the block becomes a sentence too.

    :raises ControlUnusable: it can't be read, or written.
    """
    topic = OwnTopic(CONTROL_TOPIC, absent=None if make else NOT_THERE)
    log = TopicLog(_shared(settings), topic, reader)
    task = asyncio.get_running_loop().create_task(log.run())
    try:
        await log.catch_up()
        yield log
    except KeyUnavailable as error:
        raise ControlUnusable(str(error)) from None
    finally:
        task.cancel()
        await asyncio.wait([task])


def _shared(settings: Settings) -> Shared:
    """Nothing is sealed or opened here, so rules and keys don't matter, and needn't be right."""
    plain = settings.model_copy(update={"topics": (TopicRule(match="*", seal=Seal.NONE),), "presets": ()})
    metrics = Metrics()
    realm = Realm(name=settings.realm or "", hiding_key=None)
    return Shared(
        settings=plain,
        policy=Policy(plain),
        metrics=metrics,
        keys=KeyRing({}, realm, plain.keys, plain.limits, metrics=metrics),
        brokers=Brokers(),
        budget=BufferBudget(plain.limits.buffered_bytes),
        topic_names=TopicNames(),
        topic_settings=SettingsCache(plain.limits.topic_settings_seconds),
        now=time.monotonic,
        unix_time=time.time,
    )
