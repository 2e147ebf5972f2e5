"""Where the batches that a process opens stand in their streams, partition by partition.

It is section 14.3 of the envelopes' FORMAT.md. A topic that is made again under its name has another id, and nothing of
what was known of it. That it was is the cluster's word, and so it is told, as is that a log was cut back.
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
    """One that is read. `place` is its topic's id, or its name where no id is known."""

    topic: str
    place: str | bytes
    number: int
    refuses_gaps: bool


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
        named = self._streams.pop(partition._replace(place=partition.topic), None)
        if named is not None:  # its id has become known
            self._streams[partition] = named
            return named
        is_remade = any((one.topic, one.number) == (partition.topic, partition.number) for one in self._streams)
        if is_remade:
            self.tell(partition, [Finding(Kind.REMADE, b"", 0, 0, 0, 0)], "", None)
        made = self._streams[partition] = Stream(refuse_gaps=partition.refuses_gaps, is_remade=is_remade)
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
        """Raise the alarm, or give notice: in the log, the audit and a metric."""
        for kind, kid, lane, first, last, offset in findings:
            self.alarms[kind] += 1
            if kind.is_notice:
                give = partial(_notice, partition, cause)
                key = (partition[:3], kind, offset)
                log_limited(give, "stream_restarted", key=key, kind=kind.name.lower(), offset=offset, reason=kind.value)
                continue
            told: dict[str, Any] = {"kind": kind.name.lower(), "producer": producer, "kid": kid.hex(), "lane": lane}
            told |= {"first_batch": first, "last_batch": last, "offset": offset, "reason": kind.value}
            write = partial(_write, partition, cause)
            log_limited(write, "stream_alarm", key=(partition[1:3], kind, kid, lane, offset), **told)


def _rows(heads: Heads) -> list[tuple[bytes, int, int]]:
    return [(kid, lane, batches) for (kid, lane), batches in heads.items()]


def _notice(partition: Partition, cause: Cause | None, event: str, **told: object) -> None:
    _log.warning(event, topic=partition.topic, partition=partition.number, **told)
    audit("stream.restarted", f"{partition.topic}/{partition.number}", cause, **told)


def _write(partition: Partition, cause: Cause | None, event: str, **told: object) -> None:
    _log.error(event, topic=partition.topic, partition=partition.number, **told)
    audit("stream.alarm", f"{partition.topic}/{partition.number}", cause, **told)
