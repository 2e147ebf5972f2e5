"""What a consumer that asked for committed records makes of an answer's list of aborted transactions (KIP-98).

A producer id's batches are left out from the first offset of its entry on, up to its ABORT marker. Clients don't ask
which marker ends a transaction that no entry names, nor mind a COMMIT marker where one does: whoever wants to know
whether list and markers fit has to look.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kveil.protocol.kafka.record_batch import BatchHeader


class Entry(NamedTuple):
    """An aborted transaction of a producer id that the answer has batches of, or may have."""

    producer_id: int
    first_offset: int


@dataclass(slots=True, eq=False)
class Outcome:
    """What the answer says of a transaction's batch: whether it counts, and whether its marker says otherwise."""

    committed: bool
    is_contradicted: bool = False


def outcomes_in(entries: Iterable[Entry], batches: Sequence[tuple[BatchHeader, bool | None]]) -> list[Outcome | None]:
    """What an answer says of each of its batches, in their order; None for those of no transaction.

    A batch comes as its header, and, if it is a marker, whether that says COMMIT.
    """
    waiting: dict[int, list[int]] = {}
    for producer_id, first_offset in sorted(entries):
        waiting.setdefault(producer_id, []).append(first_offset)
    open_ones: dict[int, list[Outcome]] = {}
    found: list[Outcome | None] = []
    for header, marker in batches:
        aborted = waiting.get(header.producer_id, [])
        outcome = None
        if marker is not None:
            for one in open_ones.pop(header.producer_id, ()):
                one.is_contradicted = one.committed is not marker
            if not marker and aborted and aborted[0] <= header.base_offset:
                del aborted[0]
        elif header.is_transactional and header.record_count and not header.is_control:
            outcome = Outcome(committed=not (aborted and aborted[0] <= header.last_offset))
            open_ones.setdefault(header.producer_id, []).append(outcome)
        found.append(outcome)
    return found
