"""Single messages at a steady pace, by all ways in turns.

`python -m tests.bench.paced JSON`, a line of JSON as its answer. Each turn sends one message by each way, a moment apart and in a new order, without linger. So whatever the machine
does at that moment meets all ways, and the difference within a turn is what a way adds. The pace is that of each way.
"""

import json
import statistics
import struct
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from tests.bench.client import IDLE_SECONDS, client_settings, payloads
from tests.bench.usage import cpu_seconds

WARM_UP_SECONDS = 1.0
STATISTICS_MS = 100
PERCENTILES = (50, 95, 99)
NUMBER = struct.Struct(">q")


@dataclass(slots=True)
class Sender:
    """One way: its producer, a thread that takes acknowledgements, and one that consumes if asked to."""

    job: dict[str, Any]
    consumes: bool
    sent: dict[int, float] = field(default_factory=dict)
    took: dict[int, float] = field(default_factory=dict)
    """Milliseconds, by turn."""
    acknowledged: int = 0
    failures: list[str] = field(default_factory=list)
    requests: int = 0
    cpu: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _producer: Any = None

    def __enter__(self) -> Self:
        settings = {
            "linger.ms": 0,
            "acks": "all",
            "socket.nagle.disable": True,
            "statistics.interval.ms": STATISTICS_MS,
            "stats_cb": self._count,
        }
        self._producer = Producer(client_settings(self.job, settings))
        self._producer.list_topics(self.job["topic"], timeout=IDLE_SECONDS)
        work = [self._take_acknowledgements, *([self._consume] if self.consumes else [])]
        self._threads = [threading.Thread(target=each, daemon=True) for each in work]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(IDLE_SECONDS)

    def send(self, turn: int, value: bytes) -> None:
        """One message."""
        began = self.sent[turn] = time.perf_counter()
        self._producer.produce(
            self.job["topic"], NUMBER.pack(turn) + value, on_delivery=partial(self._note, turn, began)
        )

    def flush(self) -> None:
        """Wait until all came back, and the client has counted its requests."""
        left = self._producer.flush(IDLE_SECONDS)
        deadline = time.monotonic() + IDLE_SECONDS
        while self.consumes and len(self.took) < len(self.sent) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(3 * STATISTICS_MS / 1000)
        if left or self.failures or len(self.took) < len(self.sent):
            raise RuntimeError(
                f"{left} of {len(self.sent)} messages were lost, {len(self.took)} timed: {self.failures}"
            )

    def cpu_seconds(self) -> float:
        """What the process in between has used up to now."""
        return cpu_seconds(self.job["pid"]) if self.job["pid"] else 0.0

    def _note(self, turn: int, began: float, error: Any, message: Any) -> None:
        if error is not None:
            self.failures.append(str(error))
        self.acknowledged += 1
        if not self.consumes:
            self.took[turn] = (time.perf_counter() - began) * 1000

    def _take_acknowledgements(self) -> None:
        while not self._ended.is_set():
            self._producer.poll(0.2)

    def _consume(self) -> None:
        consumer = Consumer(client_settings(self.job, {"group.id": "bench", "enable.auto.commit": False}))
        topic, partitions = self.job["topic"], range(self.job["partitions"])
        consumer.assign([TopicPartition(topic, each, OFFSET_BEGINNING) for each in partitions])
        while not self._ended.is_set():
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                (turn,) = NUMBER.unpack_from(message.value())
                self.took[turn] = (time.perf_counter() - self.sent[turn]) * 1000
        consumer.close()

    def _count(self, text: str) -> None:
        brokers = json.loads(text)["brokers"].values()
        self.requests = sum(broker["req"].get("Produce", 0) for broker in brokers)


def measure(job: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Send, and say of each way what its messages took."""
    with ExitStack() as stack:
        senders = [stack.enter_context(Sender(way, job["consumes"])) for way in job["ways"]]
        warm = round(WARM_UP_SECONDS * job["per_second"])
        turns = warm + round(job["seconds"] * job["per_second"])
        pace = Pace(job["per_second"], senders, payloads(job["record_bytes"], "none"))
        pace.run(range(warm))
        before = [(each.cpu_seconds(), each.acknowledged) for each in senders]
        pace.run(range(warm, turns))
        after = [(each.cpu_seconds(), each.acknowledged) for each in senders]
        for each in senders:
            each.flush()
        timed = range(warm, turns)
        found = {}
        for sender, (cpu, count), (cpu_after, count_after) in zip(senders, before, after, strict=True):
            # Messages that waited for one another share a request: what the client counted in all tells how many do.
            requests = (count_after - count) * sender.requests / max(sender.acknowledged, 1)
            cost = {"request": (cpu_after - cpu) / max(requests, 1) * 1e6} if sender.job["pid"] else {}
            found[sender.job["name"]] = _percentiles(sender, senders[0], timed) | cost
    return found


class Pace:
    """Turn after turn, each due at its time."""

    def __init__(self, per_second: int, senders: list[Sender], values: list[bytes]) -> None:
        self._step = 1 / per_second
        self._senders = senders
        self._values = values

    def run(self, turns: range) -> None:
        """One message by each way in each turn, none before it is due."""
        began, slot = time.perf_counter(), self._step / len(self._senders)
        count = len(self._senders)
        for turn in turns:
            due = began + (turn - turns.start) * self._step
            value = self._values[turn % len(self._values)]
            for place in range(count):
                left = due + place * slot - time.perf_counter()
                if left > 0:
                    time.sleep(left)
                self._senders[(turn + place) % count].send(turn, value)


def _percentiles(sender: Sender, direct: Sender, turns: range) -> dict[str, float]:
    took, base = (sorted(each.took[turn] for turn in turns) for each in (sender, direct))
    places = {f"p{percent}": min(len(took) * percent // 100, len(took) - 1) for percent in PERCENTILES}
    found = {name: took[place] for name, place in places.items()}
    if sender is not direct:
        found |= {f"added {name}": took[place] - base[place] for name, place in places.items()}
        found["added p50"] = statistics.median(sender.took[turn] - direct.took[turn] for turn in turns)
    return found


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
