"""The librdkafka client: `python -m tests.bench.client JSON`, a line of JSON as its answer.

A process of its own, so that its work is not counted with anyone else's.
"""

import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

PAYLOADS = 2_000
KEY_SEQUENCE = 50_021  # a prime: keys and values meet anew in each turn
LINGER_MS = 5
FETCH_RECORDS = 10_000
IDLE_SECONDS = 30.0
_ERRORS_ONLY = 3


def payloads(record_bytes: int, codec: str) -> list[bytes]:
    """Values to choose from: random bytes, or JSON that compresses as logs do."""
    if codec == "none":
        return [os.urandom(record_bytes) for _ in range(PAYLOADS)]
    chance = random.Random(7)
    return [json_record(chance, record_bytes) for _ in range(PAYLOADS)]


def json_record(chance: random.Random, record_bytes: int) -> bytes:
    """A JSON record of about that size, filled up to it."""
    words = ("checkout", "search", "login", "basket", "payment", "shipping", "refund", "profile")
    text = ""
    while len(text) < record_bytes:
        event = {
            "at": f"2025-11-{chance.randrange(1, 29):02}T{chance.randrange(24):02}:{chance.randrange(60):02}:00Z",
            "user": chance.randrange(10**6),
            "action": chance.choice(words),
            "ok": chance.random() < 0.9,
            "ms": chance.randrange(2_000),
        }
        text += json.dumps(event) + " "
    return text[:record_bytes].encode()


def customers(count: int) -> list[bytes | None]:
    """Keys in no order, each of them again and again as a topic by customer has them; None for no keys."""
    if not count:
        return [None]
    chance = random.Random(11)
    return [b"customer-%06d" % chance.randrange(count) for _ in range(KEY_SEQUENCE)]


def produce(job: dict[str, Any]) -> dict[str, float]:
    """Produce as fast as it goes; the time until all is acknowledged."""
    settings = {
        "linger.ms": LINGER_MS,
        "acks": "all",
        "compression.type": job["codec"],
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 256 * 1024,
    }
    producer = Producer(client_settings(job, settings))
    producer.list_topics(job["topic"], timeout=IDLE_SECONDS)
    values = payloads(job["record_bytes"], job["codec"])
    keys = customers(job["keys"])
    failures: list[str] = []

    def note(error: Any, message: Any) -> None:
        if error is not None:
            failures.append(str(error))

    began = time.perf_counter()
    send, topic, poll, count, key_count = producer.produce, job["topic"], producer.poll, len(values), len(keys)
    for position in range(job["records"]):
        value, key = values[position % count], keys[position % key_count]
        try:
            send(topic, value, key, on_delivery=note)
        except BufferError:
            _send_when_there_is_room(lambda value=value, key=key: send(topic, value, key, on_delivery=note), poll)
        if not position % 500:
            poll(0)
    left = producer.flush(IDLE_SECONDS)
    if left or failures:
        raise RuntimeError(f"{left + len(failures)} records were lost: {failures[:1]}")
    return {"seconds": time.perf_counter() - began, "bytes": job["records"] * job["record_bytes"]}


def _send_when_there_is_room(send: Callable[[], None], poll: Callable[[float], int]) -> None:
    while True:
        poll(0.05)
        try:
            send()
        except BufferError:
            continue
        return


def consume(job: dict[str, Any]) -> dict[str, float]:
    """Read the whole topic; the time from its first record to its last."""
    settings = {"group.id": "bench", "enable.auto.commit": False, "check.crcs": True}
    consumer = Consumer(client_settings(job, settings))
    consumer.assign([TopicPartition(job["topic"], each, OFFSET_BEGINNING) for each in range(job["partitions"])])
    count = size = first = 0
    began = None
    deadline = time.monotonic() + IDLE_SECONDS
    while count < job["records"] and time.monotonic() < deadline:
        messages = consumer.consume(FETCH_RECORDS, timeout=0.1)
        if not messages:
            continue
        if began is None:
            began = time.perf_counter()
            first = sum(len(message.value()) for message in messages)
        deadline = time.monotonic() + IDLE_SECONDS
        for message in messages:
            if message.error():
                raise RuntimeError(str(message.error()))
            size += len(message.value())
        count += len(messages)
    ended = time.perf_counter()
    consumer.close()
    if count != job["records"] or began is None:
        raise RuntimeError(f"{count} of {job['records']} records came")
    # What came with the first answer was there before the clock ran, unless it was all.
    timed = size - first if size > first else size
    return {"seconds": max(ended - began, 1e-6), "bytes": size, "timed_bytes": timed}


def client_settings(job: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The job's own settings and those of the work, without librdkafka's chatter."""
    return {"bootstrap.servers": job["bootstrap"], "log_level": _ERRORS_ONLY, **job["settings"], **settings}


OPERATIONS = {"produce": produce, "consume": consume}

if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(OPERATIONS[given["operation"]](given)))
