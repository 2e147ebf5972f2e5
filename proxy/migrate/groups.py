"""Consumer groups moved to the destination: their offsets, translated and committed there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.migrate.cluster import GROUP, Cluster, Topic, check
from kveil.proxy.migrate.comparing import Comparison
from kveil.proxy.migrate.errors import MigrateError
from kveil.proxy.migrate.offsets_map import translate

ALL: Final = "all"
_OWN_PREFIX: Final = "kveil-migrate."
_AT_REST: Final = frozenset({"Empty", "Dead", ""})
_SHARE: Final = "share"
"""Groups without offsets that could be committed (KIP-932)."""
_UNKNOWN_MEMBER: Final = 25


@dataclass(slots=True, kw_only=True)
class MovedGroup:
    """What became of one group."""

    group: str
    offsets: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By partition: from which offset of the source to which of the destination."""
    refused: str | None = None
    """Why nothing was committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMover:
    """Translates offsets of groups."""

    cluster: Cluster
    source: Topic
    dest: Topic
    compared: Mapping[int, Comparison]

    async def move(self, names: Sequence[str], *, dry_run: bool = False) -> list[MovedGroup]:
        """Move the groups of these names, or all that have offsets of the source."""
        states = await self._states()
        wanted = [name for name in sorted(states) if not name.startswith(_OWN_PREFIX)] if ALL in names else names
        moved = [await self._plan(name, states.get(name, "")) for name in wanted]
        if ALL in names:
            moved = [each for each in moved if each.offsets or each.refused]
        for each in moved:
            if not dry_run and each.refused is None and each.offsets:
                each.refused = await self._commit(each)
        return moved

    async def _states(self) -> dict[str, str]:
        """Return every group with its state."""
        found: dict[str, str] = {}
        for node in await self.cluster.brokers():
            answer = await self.cluster.ask(ApiKey.LIST_GROUPS, {"states_filter": [], "types_filter": []}, node=node)
            check(answer.error_code, "the list of groups")
            ordinary = [each for each in answer.groups if getattr(each, "group_type", "") != _SHARE]
            found |= {each.group_id: getattr(each, "group_state", "") for each in ordinary}
        return found

    async def _plan(self, name: str, state: str) -> MovedGroup:
        moved = MovedGroup(group=name)
        try:
            committed = await self.cluster.committed(name, self.source)
            there = await self.cluster.committed(name, self.dest)
        except MigrateError as error:
            moved.refused = str(error)
            return moved
        for partition, (offset, _) in committed.items():
            dest = translate(self.compared[partition], offset)
            if dest is None:
                place = f"{self.source.name}/{partition}"
                moved.refused = f"its offset {offset} of {place} isn't copied yet: run the same command again"
                return moved
            moved.offsets[partition] = (offset, dest)
        if not moved.offsets:
            moved.refused = None if not committed and state else f"it has no offsets of {self.source.name}"
        elif state not in _AT_REST:
            moved.refused = f"it is active ({state}): stop its consumers, and run the same command again"
        elif there and {each: offset for each, (offset, _) in there.items()} != {
            each: dest for each, (_, dest) in moved.offsets.items()
        }:
            moved.refused = f"it has offsets of {self.dest.name} already, which are left alone"
        return moved

    async def _commit(self, moved: MovedGroup) -> str | None:
        """Commit the offsets; return why it couldn't be."""
        rows = [
            {"partition_index": each, "committed_offset": dest, "committed_leader_epoch": -1, "committed_metadata": ""}
            for each, (_, dest) in moved.offsets.items()
        ]
        values: dict[str, Any] = {
            "group_id": moved.group,
            "generation_id_or_member_epoch": -1,
            "generation_id": -1,
            "member_id": "",
            "group_instance_id": None,
            "topics": [{"name": self.dest.name, "partitions": rows}],
        }
        node = await self.cluster.coordinator(GROUP, moved.group)
        answer = await self.cluster.ask(ApiKey.OFFSET_COMMIT, values, most=8, node=node)
        try:
            for row in (row for each in answer.topics for row in each.partitions):
                if int(row.error_code) == _UNKNOWN_MEMBER:
                    return "it has become active: stop its consumers, and run the same command again"
                check(row.error_code, f"the offsets of {moved.group}")
        except MigrateError as error:
            return str(error)
        return None
