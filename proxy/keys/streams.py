"""Where the batches that a process opens stand in their streams, partition by partition.

It is section 14.3 of the envelopes' FORMAT.md. Clients name a topic by its id, or by its name where they are older: a
topic that is made again under its name is another one for the first, and looks like an attack to the second.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from functools import partial
from typing import Any, Final, NamedTuple

from kveil.protocol.envelope.stream import Finding, Kind, Stream
from kveil.proxy.admin.audit import Cause, audit
from kveil.proxy.log import get_logger, log_limited

MAX_STREAMS: Final = 4_096
"""Partitions that are watched at the same time, those read last: 40 KB each where ten lanes are read from one place."""

Heads = dict[tuple[bytes, int], int]
"""By kid and lane: how far all replicas have it."""

_log = get_logger(__name__)


class Partition(NamedTuple):
    """One that is read. `place` is its topic as the client names it."""

    topic: str
    place: str | bytes
    number: int
    refuses_gaps: bool


class End(NamedTuple):
    """How far the batches of a producer count that was revoked."""

    producer: str
    batches: dict[tuple[int, int], int]
    """By partition and lane."""


class Streams:
    """All of one process. Times are of one clock, in seconds."""

    def __init__(self) -> None:
        self.alarms: Counter[Kind] = Counter()
        """How much was found of each kind."""
        self._streams: OrderedDict[Partition, Stream] = OrderedDict()
        self._heads: dict[tuple[bytes, bytes], dict[tuple[str, int], Heads]] = {}

    def of(self, partition: Partition, now: float) -> Stream:
        """What is known of a partition."""
        found = self._streams.get(partition)
        if found is not None:
            self._streams.move_to_end(partition)
            return found
        made = self._streams[partition] = Stream(refuse_gaps=partition.refuses_gaps)
        for heads in self._heads.values():
            made.note_heads(_rows(heads.get((partition.topic, partition.number), {})), now)
        if len(self._streams) > MAX_STREAMS:
            self._streams.popitem(last=False)
        return made

    def note_beacon(self, source: tuple[bytes, bytes], heads: dict[tuple[str, int], Heads], now: float) -> None:
        """A process of a producer says how far its lanes are, by topic and partition."""
        self._heads[source] = heads
        for partition, stream in self._streams.items():
            if (named := heads.get((partition.topic, partition.number))) is not None:
                stream.note_heads(_rows(named), now)

    def tell(self, partition: Partition, findings: Iterable[Finding], producer: str, cause: Cause | None) -> None:
        """Raise the alarm: in the log, the audit and a metric."""
        for kind, kid, lane, first, last, offset in findings:
            self.alarms[kind] += 1
            told: dict[str, Any] = {"kind": kind.name.lower(), "producer": producer, "kid": kid.hex(), "lane": lane}
            told |= {"first_batch": first, "last_batch": last, "offset": offset, "reason": kind.value}
            write = partial(_write, partition, cause)
            log_limited(write, "stream_alarm", key=(partition[1:3], kind, kid, lane, offset), **told)


def _rows(heads: Heads) -> list[tuple[bytes, int, int]]:
    return [(kid, lane, batches) for (kid, lane), batches in heads.items()]


def _write(partition: Partition, cause: Cause | None, event: str, **told: object) -> None:
    _log.error(event, topic=partition.topic, partition=partition.number, **told)
    audit("stream.alarm", f"{partition.topic}/{partition.number}", cause, **told)
