"""Stored batches opened by the rules and keys of the configuration, as a consumer's would be."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NamedTuple

from kveil.protocol.kafka.errors import BatchRefused
from kveil.protocol.kafka.record_batch import split_batches
from kveil.proxy import log
from kveil.proxy.apis.opening import UNOPENED, FetchedRecords, Room
from kveil.proxy.config import Direction
from kveil.proxy.context import Connection, Shared
from kveil.proxy.errors import Refused
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeysFull, KeyUnavailable
from kveil.proxy.migrate.records import CopiedRecord, records_of
from kveil.proxy.needs import HidingKeyNeed, Need, OpeningKeyNeed
from kveil.proxy.net.following import following
from kveil.proxy.net.key_needs import meet_key_need
from kveil.proxy.net.own_client import NoPorts
from kveil.proxy.policy import OWN_PRINCIPAL, Rule

_TRIES: Final = 8
"""A key that was had may be dropped before the next one is, where the cache is small."""

Records = list[tuple[int, CopiedRecord]]
"""Each with its offset."""


class Opened(NamedTuple):
    """What became of one batch."""

    records: Records
    problem: str | None = None
    """Why there are none."""


class Opener:
    """Opens one topic's batches. Rules that name consumers don't bind it: it runs for who has rules and keys."""

    def __init__(self, shared: Shared, topic: str) -> None:
        self._shared = shared
        self._topic = topic
        self._rule: Rule = shared.policy.rule_for(topic)
        self._connection = Connection(
            shared=shared,
            log=log.get_logger(__name__),
            direction=Direction.CONSUME,
            ports=NoPorts(),
            host="localhost",
            node_id=None,
            principal=OWN_PRINCIPAL,
        )

    async def open(self, partition: int, batch: memoryview) -> Opened:
        """Return a whole stored batch's records as consumers get them, or why they get none."""
        if not self._rule.seal:  # it passes as it is
            return _read(bytes(batch))
        fetched = FetchedRecords(
            batch.toreadonly(),  # a large one would be spent by opening it
            topic=self._topic,
            partition=partition,
            rule=self._rule,
            connection=self._connection,
        )
        if not await self._gets_keys(fetched):
            return Opened([], "it needs more keys at a time than are kept: raise limits.opened_keys")
        try:
            pieces = fetched.open(Room(), whole=True)
        except Refused as error:
            return Opened([], str(error.__cause__) if error.reason == UNOPENED else error.reason)
        return _read(b"".join(pieces))

    async def _gets_keys(self, fetched: FetchedRecords) -> bool:
        """Whether all are at hand, or are known not to be had."""
        failures: dict[Need, Exception] = {}
        for _ in range(_TRIES):
            needs = fetched.needs(failures)
            if not needs:
                return True
            for need in needs:
                try:
                    if isinstance(need, OpeningKeyNeed | HidingKeyNeed):
                        await meet_key_need(self._shared, need)
                except (KeyRefused, KeyDenied, KeysFull, KeyUnavailable) as error:
                    failures[need] = error
        return False


@asynccontextmanager
async def opener(shared: Shared, topic: str) -> AsyncIterator[Opener]:
    """An opener for the length of a block, which reads the key topic where rules need it."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(shared.keys.close)
        if shared.record_keys is not None:
            await stack.enter_async_context(following(shared, shared.record_keys))
        yield Opener(shared, topic)


def _read(batches: bytes) -> Opened:
    try:
        return Opened([each for view in split_batches(batches) for each in records_of(view)])
    except BatchRefused as error:
        return Opened([], str(error))
