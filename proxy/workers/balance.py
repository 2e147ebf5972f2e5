"""Which worker gets a connection.

Clients keep two kinds of connections: idle ones to the bootstrap port, and busy ones to the brokers' ports. So each
port is balanced by itself. Consumers keep two to one broker, of which one is idle (the coordinator's): who merely took
turns would give all busy ones to one worker. So where counts are equal the one with less to do gets it, and else chance
decides.
"""

import random
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field

LOAD_STEP = 0.1
"""In parts of a processor. Loads that differ by less are the same: that of an idle process moves by it."""


@dataclass(slots=True)
class _Worker:
    """What is known of one."""

    open: Counter[Hashable] = field(default_factory=Counter)
    """Connections by port."""
    total: int = 0
    cpu_seconds: float = 0.0
    reported_at: float | None = None
    load: float = 0.0


class Balance:
    """The workers that take connections, and the connections that they have. Workers go by their number."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.Random()  # noqa: S311 - nobody gains by guessing it
        self._workers: dict[int, _Worker] = {}
        self._places: dict[int, tuple[int, Hashable]] = {}
        """By the connection's number: its worker and port."""
        self._numbers = 0

    def __len__(self) -> int:
        """How many connections are open."""
        return len(self._places)

    @property
    def workers(self) -> list[int]:
        """Who takes connections."""
        return list(self._workers)

    def add(self, worker: int) -> None:
        """Let a worker have connections."""
        self._workers[worker] = _Worker()

    def remove(self, worker: int) -> None:
        """Forget a worker and its connections."""
        self._workers.pop(worker, None)
        self._places = {number: place for number, place in self._places.items() if place[0] != worker}

    def connections_of(self, worker: int) -> int:
        """How many connections a worker has."""
        return self._workers[worker].total if worker in self._workers else 0

    def cpu_seconds_of(self, worker: int) -> float:
        """The processor time that a worker has used, as it last said."""
        return self._workers[worker].cpu_seconds if worker in self._workers else 0.0

    def choose(self, port: Hashable) -> tuple[int, int]:
        """Return the worker that gets a new connection to this port, and the connection's number."""

        def rank(worker: int) -> tuple[int, int, int, float]:
            known = self._workers[worker]
            return known.open[port], int(known.load / LOAD_STEP), known.total, self._chance.random()

        worker = min(self._workers, key=rank)
        self._workers[worker].open[port] += 1
        self._workers[worker].total += 1
        self._numbers += 1
        self._places[self._numbers] = (worker, port)
        return worker, self._numbers

    def ended(self, number: int) -> None:
        """Forget a connection."""
        worker, port = self._places.pop(number, (None, None))
        known = self._workers.get(worker) if worker is not None else None
        if known is not None:
            known.total -= 1
            known.open[port] -= 1
            if not known.open[port]:
                del known.open[port]

    def note_load(self, worker: int, cpu_seconds: float, now: float) -> None:
        """Take note of the processor time that a worker has used since it started."""
        known = self._workers.get(worker)
        if known is None:
            return
        if known.reported_at is not None and now > known.reported_at:
            lately = (cpu_seconds - known.cpu_seconds) / (now - known.reported_at)
            known.load = (known.load + lately) / 2
        known.cpu_seconds, known.reported_at = cpu_seconds, now
