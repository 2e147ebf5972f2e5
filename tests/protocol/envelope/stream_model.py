"""A writer, a log and readers as they are when nobody attacks, for the tests of stream positions.

Driven by steps of small numbers, so that hypothesis can choose and shorten them. Time is the model's own.
"""

import hashlib
from dataclasses import dataclass, field

from kveil.protocol.envelope.lane import Lane
from kveil.protocol.envelope.position import Position
from kveil.protocol.envelope.seen import Seen
from kveil.protocol.envelope.stream import Leader, Stream


@dataclass
class Stored:
    """What lies at an offset: a batch with a position, or, without, a marker or somebody else's."""

    offset: int
    size: int
    kid: bytes = b""
    position: Position | None = None
    digest: bytes = b""
    nth: int | None = None
    leader: int = 0

    def seen(self) -> Seen:
        return Seen(self.kid, self.position, self.offset, self.digest, self.nth)


@dataclass
class Writer:
    """One lane and its batches under way: sealed, not yet at the broker; and stored, the answer not yet back."""

    kid: bytes
    lane: Lane
    sent: list[tuple[Position, int, bytes]] = field(default_factory=list)
    unanswered: list[int] = field(default_factory=list)


class Model:
    """`record_mode` stores each record by itself, and lets the log cleaner take any."""

    def __init__(self, *, record_mode=False, readers=2, lanes=3):
        self.record_mode = record_mode
        self.log: list[Stored] = []
        self.start = self.end = 0
        self.now = 0.0
        self.epoch = 0
        self.leader = 0
        self.lane_count = lanes
        self.stream = Stream()
        self.places = [0] * readers
        self.findings = []
        self.acknowledged = set()
        self.sealed = {}
        self.restart()

    def step(self, name, a, b):
        getattr(self, name)(a, b)

    # The writer's process

    def restart(self, *_):
        """Killed and started: what was under way is nobody's any more."""
        self.epoch += 1
        kid = hashlib.sha256(b"%d" % self.epoch).digest()[:16]
        self.writers = [Writer(kid, Lane(number)) for number in range(self.lane_count)]

    def writer(self, a):
        return self.writers[a % len(self.writers)]

    def send(self, a, b):
        """A client's batch is sealed."""
        writer, count = self.writer(a), 1 + b % 3
        slot = writer.lane.next(count)
        told = repr((writer.kid, slot.position, self.now, len(self.log)))
        slot.digest = hashlib.sha256(told.encode()).digest()[:16]
        writer.lane.sealed(slot)
        writer.sent.append((slot.position, count, slot.digest))
        self.sealed[writer.kid, writer.lane.number, slot.position.batch] = writer.sent[-1]

    def arrive(self, a, b):
        """A batch is stored. By `b`: answered later; at once; after a retry of the same bytes that the broker knows;
        never, as with acks 0; after so long that nobody waits for it.
        """
        writer = self.writer(a)
        if not writer.sent:
            return
        position, count, digest = writer.sent.pop(0)
        sizes = [1] * count if self.record_mode else [count]
        for nth, size in enumerate(sizes):
            made = hashlib.sha256(digest + bytes([nth])).digest()[:16] if self.record_mode else digest
            number = nth if self.record_mode else None
            self.log.append(Stored(self.end, size, writer.kid, position, made, number, self.leader))
            self.end += size
        if b % 5 == 0:
            writer.unanswered.append(position.batch)
        elif b % 5 < 3:
            self.acknowledge(writer, position.batch)
        else:
            writer.lane.skipped(position.batch)

    def acknowledge(self, writer, batch):
        writer.lane.acknowledged(batch)
        self.acknowledged.add((writer.kid, writer.lane.number, batch))

    def fail(self, a, b):
        """A batch is refused, or taken apart, or lost on its way with a connection that ends."""
        writer = self.writer(a)
        if writer.sent:
            writer.lane.skipped(writer.sent.pop(0)[0].batch)

    def answer(self, a, b):
        writer = self.writer(a)
        if writer.unanswered:
            batch = writer.unanswered.pop(b % len(writer.unanswered))
            writer.lane.skipped(batch) if b % 7 == 6 else self.acknowledge(writer, batch)

    def marker(self, a, b):
        """A transaction ends, or somebody else writes. What was aborted stays in the log."""
        self.log.append(Stored(self.end, 1 + b % 2, leader=self.leader))
        self.end += 1 + b % 2

    # The broker

    def retain(self, a, b):
        """Retention takes the oldest."""
        gone = self.log[: (a + b) % (len(self.log) + 1) // 2]
        self.log = self.log[len(gone) :]
        self.start = self.log[0].offset if self.log else self.end

    def compact(self, a, b):
        """The log cleaner takes any records."""
        if self.record_mode:
            self.log = [each for place, each in enumerate(self.log) if (place * 7 + a) % (2 + b % 5)]

    def elect(self, a, b):
        """A leader that lacks what isn't acknowledged yet. The client sends again what it has no answer for."""
        kept = len(self.log)
        while kept and kept > len(self.log) - a % 6 and self.place_of(kept - 1) not in self.acknowledged:
            kept -= 1
        while 0 < kept < len(self.log) and self.log[kept].position and self.place_of(kept - 1) == self.place_of(kept):
            kept += 1  # a batch is there or not
        lost, self.log = self.log[kept:], self.log[:kept]
        self.leader += 1
        if not lost:
            return
        self.end = lost[0].offset
        self.places = [min(place, self.end) for place in self.places]
        for writer in self.writers:
            again = {
                each.position.batch: each
                for each in lost
                if each.kid == writer.kid
                and each.position.lane == writer.lane.number
                and each.position.batch in writer.unanswered
            }
            writer.unanswered = [batch for batch in writer.unanswered if batch not in again]
            writer.sent[:0] = [self.sealed[each.kid, each.position.lane, batch] for batch, each in again.items()]

    def place_of(self, at):
        each = self.log[at]
        return (each.kid, each.position.lane, each.position.batch) if each.position else None

    # Readers

    def acquire(self, a, b):
        """A share group is given some records, here and there."""
        for each in self.log[a % 3 :: 1 + b % 4]:
            if each.position is not None:
                until = each.offset + each.size
                leader = Leader(each.offset, each.leader)
                self.note(self.stream.read(each.offset, until, [each.seen()], self.now, leader=leader))

    def read(self, a, b):
        """A reader fetches what comes next."""
        reader = a % len(self.places)
        self.read_at(reader, 1 + b % 8)

    def read_at(self, reader, most):
        place = max(self.places[reader], self.start)
        found = [each for each in self.log if each.offset + each.size > place][:most]
        last = bool(not found or found[-1] is self.log[-1])
        end = self.end if last else found[-1].offset + found[-1].size
        for each in found:
            seen, leader = [each.seen()] if each.position is not None else [], Leader(each.offset, each.leader)
            until = each.offset + each.size
            told = {"growth_only": self.record_mode, "leader": leader}
            self.note(self.stream.read(min(place, each.offset), until, seen, self.now, **told))
            place = until
        self.note(self.stream.read(place, end, [], self.now, growth_only=self.record_mode))
        self.places[reader] = end
        if last:
            self.findings += self.stream.at_end(end, self.now, growth_only=self.record_mode)

    def note(self, findings):
        """All that is wrong. That a log was cut back is none of it."""
        self.findings += [each for each in findings if not each.kind.is_notice]

    def read_all(self, reader=0, most=4):
        while self.places[reader] < self.end:
            self.read_at(reader, most)

    def seek(self, a, b):
        """To the start of any batch, or the end."""
        offsets = [each.offset for each in self.log] + [self.end]
        self.places[a % len(self.places)] = offsets[b % len(offsets)]

    def beacon(self, a, b):
        """Every process says what is acknowledged; it comes within 5 s."""
        heads = [(each.kid, each.lane.number, each.lane.acknowledged_batch) for each in self.writers]
        self.now += b % 5
        self.stream.note_heads(heads, self.now)

    def wait(self, a, b):
        self.now += b * 3
