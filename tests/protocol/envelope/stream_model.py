"""A writer, a log and readers as they are when nobody attacks, for the tests of stream positions.

Driven by steps of small numbers, so that hypothesis can choose and shorten them. Time is the model's own.
"""

import hashlib
from dataclasses import dataclass, field

from kveil.protocol.envelope.lane import Lane
from kveil.protocol.envelope.position import Position
from kveil.protocol.envelope.seen import Seen
from kveil.protocol.envelope.stream import Stream


@dataclass
class Stored:
    """What lies at an offset: a batch with a position, or, without, a marker or somebody else's."""

    offset: int
    size: int
    kid: bytes = b""
    position: Position | None = None
    digest: bytes = b""
    nth: int | None = None

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
        self.lane_count = lanes
        self.stream = Stream()
        self.places = [0] * readers
        self.findings = []
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
            self.log.append(Stored(self.end, size, writer.kid, position, made, nth if self.record_mode else None))
            self.end += size
        if b % 5 == 0:
            writer.unanswered.append(position.batch)
        elif b % 5 < 3:
            writer.lane.acknowledged(position.batch)
        else:
            writer.lane.skipped(position.batch)

    def fail(self, a, b):
        """A batch is refused, or taken apart, or lost on its way with a connection that ends."""
        writer = self.writer(a)
        if writer.sent:
            writer.lane.skipped(writer.sent.pop(0)[0].batch)

    def answer(self, a, b):
        writer = self.writer(a)
        if writer.unanswered:
            batch = writer.unanswered.pop(b % len(writer.unanswered))
            writer.lane.skipped(batch) if b % 7 == 6 else writer.lane.acknowledged(batch)

    def marker(self, a, b):
        """A transaction ends, or somebody else writes. What was aborted stays in the log."""
        self.log.append(Stored(self.end, 1 + b % 2))
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

    # Readers

    def read(self, a, b):
        """A reader fetches what comes next."""
        reader = a % len(self.places)
        self.read_at(reader, 1 + b % 8)

    def read_at(self, reader, most):
        place = max(self.places[reader], self.start)
        found = [each for each in self.log if each.offset + each.size > place][:most]
        last = bool(not found or found[-1] is self.log[-1])
        end = self.end if last else found[-1].offset + found[-1].size
        seen = [each.seen() for each in found if each.position is not None]
        self.findings += self.stream.read(place, end, seen, self.now, growth_only=self.record_mode)
        self.places[reader] = end
        if last:
            self.findings += self.stream.at_end(end, self.now, growth_only=self.record_mode)

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
