"""How far a copy is, as it stands in the metadata of the offsets that it commits:
`1 SOURCE_ID DEST_ID START FIRST N PRODUCERS`.

The ids tell a topic from another of the same name that came after it. START is the source offset that the copy of the
partition began at, FIRST the destination's then, N how many records it has copied since, and PRODUCERS the ids that it
did so under: a copy gets another one if it rests for a week.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from kveil.proxy.migrate.errors import MigrateError

_VERSION: Final = "1"
_FIELDS: Final = 7
_NUMBERS: Final = slice(3, 6)


def name_of(source: str, dest: str) -> str:
    """Return the group, and transactional id, of a copy."""
    return f"kveil-migrate.{source}.{dest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionState:
    """One partition's."""

    source_id: str
    dest_id: str
    start: int
    first: int
    """The first offset that the destination could give to a copied record."""
    position: int
    """The source offset behind the last that was copied."""
    records: int = 0
    producers: tuple[int, ...] = ()

    @property
    def metadata(self) -> str:
        """What is committed with the position."""
        ids = f"{self.source_id or '-'} {self.dest_id or '-'}"
        producers = ",".join(map(str, self.producers)) or "-"
        return f"{_VERSION} {ids} {self.start} {self.first} {self.records} {producers}"

    @property
    def committed(self) -> tuple[int, str]:
        """The offset and its metadata."""
        return self.position, self.metadata

    def moved(self, position: int, records: int) -> "PartitionState":
        """Return the state after so many records more."""
        return replace(self, position=position, records=self.records + records)

    def with_producer(self, producer_id: int) -> "PartitionState":
        """Return the state of a copy that goes on under this id."""
        return self if producer_id in self.producers else replace(self, producers=(*self.producers, producer_id))


def read_states(committed: Mapping[int, tuple[int, str]], group: str) -> dict[int, PartitionState]:
    """Return the states of a group's offsets.

    :raises MigrateError: somebody else has committed them.
    """
    found = {}
    for partition, (position, metadata) in committed.items():
        parts = metadata.split(" ")
        producers = () if parts[-1] == "-" else parts[-1].split(",")
        numbers = (*parts[_NUMBERS], *producers)
        if len(parts) != _FIELDS or parts[0] != _VERSION or not all(map(str.isdecimal, numbers)):
            raise MigrateError(
                f"the group {group} has offsets that no copy has committed: somebody else uses this name, or changed "
                "them; begin with a new destination"
            )
        source_id, dest_id = ("" if part == "-" else part for part in parts[1:3])
        start, first, records = map(int, parts[_NUMBERS])
        found[partition] = PartitionState(
            source_id=source_id,
            dest_id=dest_id,
            start=start,
            first=first,
            position=position,
            records=records,
            producers=tuple(map(int, producers)),
        )
    return found
