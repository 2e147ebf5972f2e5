"""Single messages at a steady pace, by all ways in turns.

`python -m tests.bench.paced JSON`, a line of JSON as its answer. The ways take turns of a tenth of a second, in a new
order each time, and in its turn each gets the whole pace: all at once would be another load than the one that was asked
for. Whatever the machine does meanwhile meets all ways, and what a way adds is the median of the differences between
its messages and the direct ones at the same place of the same turn.
"""

import json
import math
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

TURN_SECONDS = 0.1
WARM_UP_SECONDS = 0.5
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
    """Milliseconds, by message."""
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

    def send(self, number: int, value: bytes) -> None:
        """One message."""
        began = self.sent[number] = time.perf_counter()
        self._producer.produce(
            self.job["topic"], NUMBER.pack(number) + value, on_delivery=partial(self._note, number, began)
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

    def _note(self, number: int, began: float, error: Any, message: Any) -> None:
        if error is not None:
            self.failures.append(str(error))
        self.acknowledged += 1
        if not self.consumes:
            self.took[number] = (time.perf_counter() - began) * 1000

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
                (number,) = NUMBER.unpack_from(message.value())
                self.took[number] = (time.perf_counter() - self.sent[number]) * 1000
        consumer.close()

    def _count(self, text: str) -> None:
        brokers = json.loads(text)["brokers"].values()
        self.requests = sum(broker["req"].get("Produce", 0) for broker in brokers)


def measure(job: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Send, and say of each way what its messages took."""
    with ExitStack() as stack:
        senders = [stack.enter_context(Sender(way, job["consumes"])) for way in job["ways"]]
        values = payloads(job["record_bytes"], "none")
        turn = max(round(TURN_SECONDS * job["per_second"]), 1)
        warm = turn * math.ceil(WARM_UP_SECONDS * job["per_second"] / turn)
        end = warm + turn * math.ceil(job["seconds"] * job["per_second"] / turn)
        _send(senders, range(0, warm, turn), turn, job["per_second"], values)
        before = [(each.cpu_seconds(), each.acknowledged) for each in senders]
        _send(senders, range(warm, end, turn), turn, job["per_second"], values)
        after = [(each.cpu_seconds(), each.acknowledged) for each in senders]
        for each in senders:
            each.flush()
        found = {}
        for sender, (cpu, count), (cpu_after, count_after) in zip(senders, before, after, strict=True):
            # Messages that waited for one another share a request: what the client counted in all tells how many do.
            requests = (count_after - count) * sender.requests / max(sender.acknowledged, 1)
            cost = {"request": (cpu_after - cpu) / max(requests, 1) * 1e6} if sender.job["pid"] else {}
            found[sender.job["name"]] = _percentiles(sender, senders[0], range(warm, end)) | cost
    return found


def _send(senders: list[Sender], firsts: range, turn: int, per_second: int, values: list[bytes]) -> None:
    """By each way the messages of all turns, none before it is due."""
    due = time.perf_counter()
    for place, first in enumerate(firsts):
        for each in range(len(senders)):
            sender = senders[(place + each) % len(senders)]
            for number in range(first, first + turn):
                left = due - time.perf_counter()
                if left > 0:
                    time.sleep(left)
                sender.send(number, values[number % len(values)])
                due += 1 / per_second


def _percentiles(sender: Sender, direct: Sender, timed: range) -> dict[str, float]:
    took, base = (sorted(each.took[number] for number in timed) for each in (sender, direct))
    places = {f"p{percent}": min(len(took) * percent // 100, len(took) - 1) for percent in PERCENTILES}
    found = {name: took[place] for name, place in places.items()}
    if sender is not direct:
        found |= {f"added {name}": took[place] - base[place] for name, place in places.items()}
        found["added p50"] = statistics.median(sender.took[number] - direct.took[number] for number in timed)
    return found


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
