"""Following a topic of the proxy's own, and writing it: by the proxy's own login, on connections of its own.

One connection reads, all the time; another one writes, and asks where the topic ends. What is written counts once the
reader has met it there: the topic's order decides between proxies.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final, Protocol, TypeVar

from kveil.protocol.kafka.errors import ProtocolError
from kveil.proxy.context import Shared
from kveil.proxy.errors import QuestionFailed
from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable
from kveil.proxy.log import get_logger, log_limited
from kveil.proxy.net.own_client import OwnClient, own_client
from kveil.proxy.net.own_topic import (
    EARLIEST,
    LATEST,
    RECORDS_AT_ONCE,
    Fetched,
    KeyValue,
    NotThereYet,
    OffsetOutOfRange,
    OwnTopic,
)

RETRY_SECONDS: Final = 0.5
# How long a topic that was made just now may be without a leader, as a rule.
LEADER_RETRY_SECONDS: Final = 0.1
_LEADER_TRIES: Final = 20
# Less than a client waits for the answer to the request that needs it.
READ_SECONDS: Final = 20.0
# For how long records are taken without a pause, for which clients wait.
_AT_ONCE_SECONDS: Final = 0.008

T = TypeVar("T")
_log = get_logger(__name__)


class TopicReader(Protocol):
    """Who takes what the topic says."""

    async def get_ready(self) -> None:
        """Have what it takes to believe a record.

        :raises KeyDenied, KeyUnavailable: it can't be had now.
        """
        ...

    def apply(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Take one record, in the order of the topic."""
        ...

    def heard(self) -> None:
        """Take note that all was read that stood on the topic a moment ago."""
        ...


class TopicLog:
    """One topic in one process. `run` follows it until it is cancelled."""

    def __init__(self, shared: Shared, topic: OwnTopic, reader: TopicReader) -> None:
        self._shared = shared
        self._topic = topic
        self._reader = reader
        self._position = 0
        self._started = False
        self._again: int | None = None
        """How far the topic was read once more, while it is."""
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._writing = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._next_look: asyncio.Task[None] | None = None
        self._writer: OwnClient | None = None
        self._writer_stack = AsyncExitStack()
        self.last_trouble = "the cluster hasn't answered yet"
        """Why it wasn't read, where it wasn't."""

    async def run(self) -> None:
        """Follow the topic for ever. What goes wrong is logged, and tried again."""
        try:
            while True:
                try:
                    await self._follow()
                except (KeyDenied, KeyUnavailable, QuestionFailed, ProtocolError, OSError) as error:
                    self.last_trouble = str(error)
                    log_limited(
                        _log.warning,
                        "own_topic_unread",
                        key=self._topic.name,
                        topic=self._topic.name,
                        reason=str(error),
                    )
                except Exception:
                    # A defect of ours, or an answer that nobody foresaw: without its follower all would stand still.
                    _log.exception("own_topic_failed", topic=self._topic.name)
                await asyncio.sleep(RETRY_SECONDS)
        finally:
            await self._drop_writer()

    # Reading -----------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        await self._reader.get_ready()
        leader = await self._leader()
        async with own_client(self._shared, leader) as client:
            if not self._started:
                self._position = await self._topic.find_offset(client, EARLIEST)
                self._started = True
                self._wake()
            while True:
                try:
                    if self._again is not None:
                        await self._read_past(client)
                    await self._take(await self._topic.fetch(client, self._position))
                except OffsetOutOfRange:
                    await self._begin_anew(client)

    async def _leader(self) -> int:
        async with own_client(self._shared) as client:
            for _ in range(_LEADER_TRIES):
                try:
                    return await self._topic.find_leader(client)
                except NotThereYet:
                    await asyncio.sleep(LEADER_RETRY_SECONDS)
            return await self._topic.find_leader(client)

    async def _read_past(self, client: OwnClient) -> None:
        """Read what stands before the position once more. What is new comes in between: somebody may wait for it."""
        begin, end = await self._topic.find_offset(client, EARLIEST), self._position
        while self._again is not None and (at := max(self._again, begin)) < end:
            fetched = await self._topic.fetch(client, at, wait_seconds=0)
            await self._apply(fetched)
            if fetched.position == at:
                break  # a broker that withholds it all the same
            self._again = fetched.position
            await self._take(await self._topic.fetch(client, self._position, wait_seconds=0))
        self._again = None
        self._reader.heard()

    async def _take(self, fetched: Fetched) -> None:
        await self._apply(fetched)
        self._position = fetched.position
        if fetched.position >= fetched.end:
            self._reader.heard()
        self._wake()

    async def _apply(self, fetched: Fetched) -> None:
        pause_at = time.monotonic() + _AT_ONCE_SECONDS
        for offset, key, value in fetched.records:
            self._reader.apply(offset, key, value)
            if time.monotonic() >= pause_at:
                await asyncio.sleep(0)
                pause_at = time.monotonic() + _AT_ONCE_SECONDS

    def _wake(self) -> None:
        """Let those go on who waited for what was read."""
        waiting, self._waiting = self._waiting, []
        for offset, reached in waiting:
            if offset > self._position:
                self._waiting.append((offset, reached))
            elif not reached.done():
                reached.set_result(None)

    async def _begin_anew(self, client: OwnClient) -> None:
        """The topic isn't the one that was read: what is known stays, it may be all that is left of it."""
        _log.error("own_topic_replaced", topic=self._topic.name, position=self._position)
        self._position = await self._topic.find_offset(client, EARLIEST)
        self._again = None

    # What others wait for ----------------------------------------------------------------------------------------

    async def append(self, records: Sequence[KeyValue]) -> None:
        """Write, and return when the reader has met it there. Raises KeyUnavailable."""
        for start in range(0, len(records), RECORDS_AT_ONCE):
            some = records[start : start + RECORDS_AT_ONCE]
            now_ms = int(self._shared.unix_time() * 1000)
            await self._reached(await self._ask(partial(self._topic.produce, records=some, timestamp_ms=now_ms)))

    def read_again(self) -> None:
        """Read from the topic's start once more, soon: what is read twice says the same."""
        self._again = 0

    async def catch_up(self) -> None:
        """Return when the reader has what stood on the topic at the call. Raises KeyUnavailable.

        Those who call while somebody waits share the next look.
        """
        if self._next_look is None:
            self._next_look = asyncio.get_running_loop().create_task(self._look())
            self._next_look.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(self._next_look)

    async def _look(self) -> None:
        async with self._looking:
            self._next_look = None  # whoever calls from here on may know of later records
            await self._catch_up()

    async def _catch_up(self) -> None:
        await self._reached(await self._ask(partial(self._topic.find_offset, which=LATEST)))
        self._reader.heard()

    async def _reached(self, offset: int) -> None:
        """Return when all before an offset was read."""
        if self._started and self._position >= offset:
            return
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((offset, reached))
        try:
            async with asyncio.timeout(READ_SECONDS):
                await reached
        except TimeoutError:
            msg = f"the topic {self._topic.name} can't be read now: {self.last_trouble}"
            raise KeyUnavailable(msg) from None

    async def _ask(self, question: Callable[[OwnClient], Awaitable[T]]) -> T:
        """What the writing connection answers. A broken one is made anew once: brokers close those that were idle.

        To write twice does no harm.
        """
        async with self._writing:
            for is_last in (False, True):
                try:
                    return await question(await self._connected())
                except (KeyDenied, KeyUnavailable, QuestionFailed, ProtocolError, OSError) as error:
                    await self._drop_writer()
                    if is_last:
                        msg = f"the topic {self._topic.name} can't be used now: {error}"
                        raise KeyUnavailable(msg) from error
                except BaseException:
                    await self._drop_writer()  # an answer may be on its way that nobody waits for
                    raise
            raise AssertionError

    async def _connected(self) -> OwnClient:
        if self._writer is None:
            leader = await self._leader()
            self._writer = await self._writer_stack.enter_async_context(own_client(self._shared, leader))
        return self._writer

    async def _drop_writer(self) -> None:
        self._writer = None
        stack, self._writer_stack = self._writer_stack, AsyncExitStack()
        await stack.aclose()
