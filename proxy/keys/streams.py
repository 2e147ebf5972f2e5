"""Where the batches that a process opens stand in their streams, partition by partition.

It is section 14.3 of the envelopes' FORMAT.md. A topic that is made again under its name has another id, and nothing of
what was known of it. That it was is the cluster's word, and so it is told, as is that a log was cut back.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kveil.protocol.envelope.outcomes import LaneEnd, Outcomes
from kveil.protocol.envelope.stream import Finding, Kind, Stream
from kveil.proxy.admin.audit import Cause, audit
from kveil.proxy.log import get_logger, log_limited

if TYPE_CHECKING:
    from kveil.protocol.identity.beacon import Beacon

MAX_STREAMS: Final = 4_096
"""Partitions that are watched at the same time, those read last: 40 KB each where ten lanes are read from one place."""

Heads = dict[tuple[bytes, int], int]
"""By kid and lane: how far all replicas have it."""

_log = get_logger(__name__)


class SaidOfPartition(NamedTuple):
    """What a beacon says of one."""

    heads: Heads
    ended: list[LaneEnd]


Said = dict[tuple[str, int], SaidOfPartition]
"""By topic and partition."""


class Partition(NamedTuple):
    """One that is read. `place` is its topic's id, or its name where no id is known."""

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
        self._outcomes: OrderedDict[Partition, Outcomes] = OrderedDict()
        self._said: dict[tuple[bytes, bytes], Said] = {}

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
        is_remade = any(  # not where a reload has changed what becomes of gaps
            (one.topic, one.number) == (partition.topic, partition.number) and one.place != partition.place
            for one in self._streams
        )
        if is_remade:
            self.tell(partition, [Finding(Kind.REMADE, b"", 0, 0, 0, 0)], "", None)
        made = self._streams[partition] = Stream(refuse_gaps=partition.refuses_gaps, is_remade=is_remade)
        for said in self._said_of(partition):
            made.note_heads(_rows(said.heads), now)
        if len(self._streams) > MAX_STREAMS:
            self._streams.popitem(last=False)
        return made

    def outcomes(self, partition: Partition) -> Outcomes:
        """What is known of the ends of its transactions, by those who read committed records only."""
        found = self._outcomes.get(partition)
        if found is not None:
            self._outcomes.move_to_end(partition)
            return found
        made = self._outcomes[partition] = Outcomes()
        for named in self._said_of(partition):
            for ended in named.ended:
                made.say(ended)
        if len(self._outcomes) > MAX_STREAMS:
            self._outcomes.popitem(last=False)
        return made

    def _said_of(self, partition: Partition) -> Iterator[SaidOfPartition]:
        for said in self._said.values():
            if (named := said.get((partition.topic, partition.number))) is not None:
                yield named

    def note_beacon(self, source: tuple[bytes, bytes], producer: str, said: Said, now: float) -> None:
        """A process of a producer, whom people call so, says how far its lanes are, and how transactions ended."""
        self._said[source] = said
        for partition, stream in self._streams.items():
            if (named := said.get((partition.topic, partition.number))) is not None:
                stream.note_heads(_rows(named.heads), now)
        for partition, outcomes in self._outcomes.items():
            if (named := said.get((partition.topic, partition.number))) is not None:
                for ended in named.ended:
                    self.tell(partition, outcomes.say(ended), producer, None)

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


def said_by(beacon: "Beacon", topics: Mapping[bytes, str]) -> Said:
    """What a beacon says of the partitions of topics, which are given by kid."""
    said: Said = {}
    for head in beacon.heads:
        if head.kid in topics and head.acknowledged:
            named = said.setdefault((topics[head.kid], head.partition), SaidOfPartition({}, []))
            named.heads[head.kid, head.lane] = head.acknowledged
    for kid, partition, lane, first, last, committed in beacon.ended:
        if kid in topics:
            named = said.setdefault((topics[kid], partition), SaidOfPartition({}, []))
            named.ended.append(LaneEnd(kid, lane, first, last, committed))
    return said


def _rows(heads: Heads) -> list[tuple[bytes, int, int]]:
    return [(kid, lane, batches) for (kid, lane), batches in heads.items()]


def _notice(partition: Partition, cause: Cause | None, event: str, **told: object) -> None:
    _log.warning(event, topic=partition.topic, partition=partition.number, **told)
    audit("stream.restarted", f"{partition.topic}/{partition.number}", cause, **told)


def _write(partition: Partition, cause: Cause | None, event: str, **told: object) -> None:
    _log.error(event, topic=partition.topic, partition=partition.number, **told)
    audit("stream.alarm", f"{partition.topic}/{partition.number}", cause, **told)
