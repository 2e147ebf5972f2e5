"""A whole migration: look, make the destination, copy, compare, move groups."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeVar

from kveil.proxy.admin.audit import audit
from kveil.proxy.config import Mode
from kveil.proxy.context import Shared
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeyUnavailable
from kveil.proxy.migrate.cluster import EARLIEST, LATEST, Cluster, Topic, connected
from kveil.proxy.migrate.comparing import Comparer, Comparison
from kveil.proxy.migrate.copying import PATIENCE_SECONDS, Copy, Watcher, found_states
from kveil.proxy.migrate.destination import (
    Configs,
    check_destination,
    check_rules,
    create,
    mode_for,
    read_configs,
    settings_for,
)
from kveil.proxy.migrate.errors import MigrateError, MigrateRefused, TryAgain
from kveil.proxy.migrate.groups import GroupMover, MovedGroup
from kveil.proxy.migrate.offsets_map import map_lines, write_map
from kveil.proxy.migrate.producing import begin
from kveil.proxy.migrate.reading import Reader
from kveil.proxy.migrate.state import PartitionState

_PAUSE_SECONDS: Final = 1.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked for."""

    source: str
    dest: str
    to_plain: bool = False
    follow: bool = False
    rate_limit: float | None = None
    """Bytes a second."""
    offsets_map: Path | None = None
    groups: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is there, and what would be done."""

    source: Topic
    source_configs: Configs
    dest: Topic | None
    """None where it will be made."""
    mode: Mode | None
    """How the destination is sealed, None for plain."""
    settings: Mapping[str, str]
    """Of the destination, where it will be made."""
    states: Mapping[int, PartitionState] | None
    """How far it is, None where it hasn't begun."""
    compacted: bool


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What was done."""

    compared: list[Comparison] = field(default_factory=list)
    groups: list[MovedGroup] = field(default_factory=list)
    behind: int = 0
    """Offsets that the source has got since."""
    stopped: bool = False
    """It was stopped before the end, and nothing was compared."""

    @property
    def is_good(self) -> bool:
        """Whether all is copied, and the same."""
        refused = any(each.refused for each in self.groups)
        return not self.stopped and not refused and all(each.is_same for each in self.compared)


class Teller(Watcher, Protocol):
    """Who is told how it goes."""

    def comparing(self, partitions: int) -> None:
        """The topics are read again."""

    def compared(self, found: Comparison) -> None:
        """A partition is done."""


async def look(cluster: Cluster, shared: Shared, order: Order) -> Plan:
    """Return what would be done.

    :raises MigrateRefused: it can't be.
    """
    check_rules(shared.policy, order.source, order.dest, to_plain=order.to_plain)
    source = await cluster.find_topic(order.source)
    if source is None:
        raise MigrateRefused(f"there is no topic {order.source}")
    configs = await read_configs(cluster, order.source)
    dest = await cluster.find_topic(order.dest)
    if dest is None:
        mode = mode_for(shared.policy, order.dest, configs)
        is_announced = shared.policy.rule_for(order.dest).is_sealed_announced
        settings = settings_for(configs, mode, is_announced=is_announced)
        return Plan(
            source=source,
            source_configs=configs,
            dest=None,
            mode=mode,
            settings=settings,
            states=None,
            compacted=configs.is_compacted,
        )
    dest_configs = await read_configs(cluster, order.dest)
    check_destination(source, dest, configs, dest_configs)
    return Plan(
        source=source,
        source_configs=configs,
        dest=dest,
        mode=mode_for(shared.policy, order.dest, dest_configs),
        settings={},
        states=await found_states(cluster, source, dest),
        compacted=configs.is_compacted or dest_configs.is_compacted,
    )


async def try_keys(cluster: Cluster, shared: Shared, plan: Plan, order: Order) -> None:
    """Make a key to seal with, and open the source's first records.

    :raises MigrateError: a key can't be used, or they don't open.
    """
    rule = shared.policy.rule_for(order.dest)
    if rule.seal:
        try:
            await shared.sealing_keys(rule.key.provider).renew(order.dest, rule)
        except (KeyDenied, KeyUnavailable, KeyRefused) as error:
            raise MigrateError(f"the key of {order.dest} can't be used: {error}") from error
    ends = await cluster.offsets(plan.source, LATEST)
    starts = await cluster.offsets(plan.source, EARLIEST)
    await Reader(cluster, plan.source, most_bytes=1).fetch(starts, ends)


async def migrate(shared: Shared, order: Order, teller: Teller, stopping: asyncio.Event) -> Outcome:
    """Do all of it.

    :raises MigrateError: it didn't come to its end; what is copied stays.
    """

    async def prepare(cluster: Cluster) -> Plan:
        plan = await look(cluster, shared, order)
        if plan.dest is None:
            await create(cluster, plan.source, order.dest, plan.settings)
        return plan

    plan = await _patiently(shared, teller, prepare)
    if order.to_plain:
        audit("topic.copied_plain", order.dest, source=order.source)
    copy = Copy(
        shared=shared,
        source=order.source,
        dest=order.dest,
        watcher=teller,
        rate_limit=order.rate_limit,
        follow=order.follow,
        stopping=stopping,
    )
    await copy.run()
    if not copy.is_whole:
        return Outcome(stopped=True)

    async def finish(cluster: Cluster) -> Outcome:
        return await _finish(cluster, plan, order, copy, teller)

    return await _patiently(shared, teller, finish)


async def _finish(cluster: Cluster, plan: Plan, order: Order, copy: Copy, teller: Teller) -> Outcome:
    source, dest = await cluster.find_topic(order.source), await cluster.find_topic(order.dest)  # leaders have moved
    if source is None or dest is None:
        raise MigrateError(f"the topic {order.source if source is None else order.dest} is gone")
    # A commit is answered before readers see all of it. Once there is a producer again, it is over.
    await begin(cluster, copy.group)
    comparer = Comparer(cluster=cluster, source=source, dest=dest, compacted=plan.compacted)
    teller.comparing(len(copy.states))
    outcome = Outcome()
    for partition, state in copy.states.items():
        found = await comparer.compare(partition, state)
        teller.compared(found)
        outcome.compared.append(found)
    if order.offsets_map is not None:
        write_map(order.offsets_map, map_lines(order.source, order.dest, outcome.compared))
    if order.groups and all(each.is_same for each in outcome.compared):
        compared = {each.partition: each for each in outcome.compared}
        mover = GroupMover(cluster=cluster, source=source, dest=dest, compared=compared)
        outcome.groups = await mover.move(order.groups)
    ends = await cluster.offsets(source, LATEST, committed=False)
    outcome.behind = sum(max(0, end - copy.states[each].position) for each, end in ends.items())
    return outcome


async def preview_groups(cluster: Cluster, plan: Plan, order: Order) -> list[MovedGroup]:
    """Return what would become of the groups, by what is copied now. Reads both topics."""
    if plan.dest is None or plan.states is None or not order.groups:
        return []
    comparer = Comparer(cluster=cluster, source=plan.source, dest=plan.dest, compacted=plan.compacted)
    compared = {each: await comparer.compare(each, state) for each, state in plan.states.items()}
    mover = GroupMover(cluster=cluster, source=plan.source, dest=plan.dest, compared=compared)
    return await mover.move(order.groups, dry_run=True)


async def _patiently(shared: Shared, teller: Teller, work: Callable[[Cluster], Awaitable[_T]]) -> _T:
    """Return what `work` does with the cluster; where a broker can't answer for now, try again."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            async with connected(shared) as cluster:
                return await work(cluster)
        except TryAgain as error:
            if time.monotonic() > until or not shared.brokers.all():  # never reached: told at once
                raise MigrateError(str(error)) from error
            teller.troubled(str(error))
            await asyncio.sleep(_PAUSE_SECONDS)
