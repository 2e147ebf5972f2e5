"""How the transactions end that clients run through this process, as far as it knows (FORMAT.md of envelopes, section
14.2).

What is said of a batch must be true whatever other processes, connections and clients do. So nothing is said unless
one transaction was seen from its beginning to its end:

    what begins it    up to EndTxn version 4 (KIP-98): its partition was added, over the very connection that ends it;
                      from version 5 on (KIP-890): each transaction has an epoch of its own
    its batches       were sent after that, and acknowledged before it was asked to end
    its end           was asked for here, always the same one, and answered without an error
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from kveil.protocol.envelope.position import Range, with_range
from kveil.protocol.identity.progress import TransactionEnd

BY_EPOCH: Final = 5
"""The version of EndTxn from which on the epoch grows with each transaction."""

PRODUCES_BY_EPOCH: Final = 12
"""The version of Produce that goes with it: partitions aren't added by a request of their own."""

MAX_TRANSACTIONS: Final = 4_096
MAX_RANGES: Final = 16
"""Of a lane: the last ones are told."""

MAX_TOLD: Final = 4_096
"""Of one beacon, which must fit in a record: the lanes whose transactions ended last."""

_CONCURRENT_TRANSACTIONS = 51

Producer = tuple[int, int]
"""Id and epoch."""

TopicPartition = tuple[str, int]


class LanePlace(NamedTuple):
    """A lane under a key."""

    kid: bytes
    partition: int
    lane: int


class Transaction:
    """One that is open, or that was asked to end."""

    __slots__ = ("added", "batches", "by", "end")

    def __init__(self, by: object) -> None:
        self.by = by
        """Over which connection partitions are added, None where the epoch tells what belongs to it."""
        self.added: set[TopicPartition] = set()
        self.batches: dict[LanePlace, list[Range]] = {}
        self.end: bool | None = None
        """Whether it was asked to commit; None before it was asked to end."""

    def stored(self, place: LanePlace, batch: int) -> None:
        """The broker has acknowledged a batch that was sent while it was open."""
        if self.end is None:
            self.batches[place] = with_range(self.batches.get(place, ()), batch, batch)


class Transactions:
    """All of one process."""

    def __init__(self) -> None:
        self._open: OrderedDict[Producer, Transaction] = OrderedDict()
        self._ended: OrderedDict[LanePlace, list[TransactionEnd]] = OrderedDict()

    # What passes -------------------------------------------------------------------------------------------------

    def added(self, by: object, producer: Producer, places: Collection[TopicPartition]) -> None:
        """Partitions were added over a connection, says the coordinator."""
        found = self._open.get(producer)
        # Clients add a partition once: what was added before was to another transaction, which ended elsewhere.
        if found is None or found.by is not by or found.end is not None or not found.added.isdisjoint(places):
            found = self._begin(producer, by)
        found.added.update(places)

    def _begin(self, producer: Producer, by: object) -> Transaction:
        made = self._open[producer] = Transaction(by)
        self._open.move_to_end(producer)
        if len(self._open) > MAX_TRANSACTIONS:
            self._open.popitem(last=False)
        return made

    def of_batch(self, producer: Producer, place: TopicPartition, version: int) -> Transaction | None:
        """The transaction of a batch that is sent by a version of Produce, None where it can't be told."""
        found = self._open.get(producer)
        if version >= PRODUCES_BY_EPOCH and found is None:
            found = self._begin(producer, None)
        is_its = found is not None and (place in found.added or (version >= PRODUCES_BY_EPOCH and found.by is None))
        return found if found is not None and is_its and found.end is None else None

    def ending(self, by: object, producer: Producer, version: int, *, commit: bool) -> Transaction | None:
        """One is asked to end. Hand what is returned to `ended`; None where nothing is known of it."""
        found = self._open.get(producer)
        if found is None:
            return None
        is_its = version >= BY_EPOCH if found.by is None else found.by is by
        if not is_its or found.end not in (None, commit):
            del self._open[producer]
            return None
        found.end = commit
        return found

    def ended(self, transaction: Transaction, producer: Producer, error: int) -> None:
        """The coordinator has answered."""
        if error == _CONCURRENT_TRANSACTIONS:  # the one before is still being ended: the client asks again
            return
        if self._open.get(producer) is transaction:
            del self._open[producer]
        if error or transaction.end is None:
            return
        for place, ranges in transaction.batches.items():
            self._note(place, ranges, committed=transaction.end)
        transaction.batches = {}

    def not_added(self, producer: Producer, error: int) -> None:
        """The coordinator refused to add a partition: what it thinks of the transaction isn't known here."""
        if error != _CONCURRENT_TRANSACTIONS:
            self._open.pop(producer, None)

    # What is told ------------------------------------------------------------------------------------------------

    def _note(self, place: LanePlace, ranges: Iterable[Range], *, committed: bool) -> None:
        known = self._ended.pop(place, [])
        for first, last in ranges:
            goes_on = bool(known) and known[-1].committed is committed and known[-1].last + 1 == first
            known.append(TransactionEnd(*place, known.pop().first if goes_on else first, last, committed))
        self._ended[place] = sorted(known)[-MAX_RANGES:]
        if len(self._ended) > MAX_TOLD:
            self._ended.popitem(last=False)

    def told(self) -> list[TransactionEnd]:
        """What a beacon says."""
        rows = [ended for place in reversed(self._ended) for ended in reversed(self._ended[place])]
        return sorted(rows[:MAX_TOLD])

    def forget(self, kids: Collection[bytes]) -> None:
        """Nothing is sealed under these any more, and what was is told."""
        for place in [place for place in self._ended if place.kid in kids]:
            del self._ended[place]
