"""One measurement after the other, the ways interleaved, so that what slows the machine down slows all of them."""

import json
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.bench import java
from tests.bench.cases import CPU, MB, RATE, STORED, Case
from tests.bench.cluster import PARTITIONS, BenchCluster
from tests.bench.results import Results
from tests.bench.ways import Way
from tests.support.processes import Child

CLIENT_SECONDS = 300.0
GB = 1_000_000_000
RECORD_MODE_LIMIT = 4 * 1024 * 1024
"""For max.message.bytes: the full batches that librdkafka makes of records of 100 B take three times as much sealed."""


class ClientFailedError(RuntimeError):
    """A client ended with an error."""


CLIENT = "tests.bench.client"


def run_client(job: dict[str, Any], module: str = CLIENT) -> dict[str, Any]:
    """Run a client to its end."""
    return run_clients([job], module)[0]


def run_clients(jobs: Sequence[dict[str, Any]], module: str = CLIENT) -> list[dict[str, Any]]:
    """Run several at once, each a process."""
    with ExitStack() as stack:
        children = [stack.enter_context(Child([sys.executable, "-m", module, json.dumps(job)])) for job in jobs]
        return [_answer(child) for child in children]


def _answer(child: Child) -> dict[str, Any]:
    if child.wait(CLIENT_SECONDS):
        raise ClientFailedError("\n".join(child.errors.so_far()[-20:]))
    answer: dict[str, Any] = json.loads(child.lines.so_far()[-1])
    return answer


def throughput_round(case: Case, ways: Sequence[Way], bench: BenchCluster, results: Results) -> None:
    """Each way once: produce into a topic of its own, then consume it."""
    for way in ways:
        with topic_for(case, way.name, bench) as topic:
            _measure("produce", case, way, topic, results)
            stored = bench.stored_bytes(topic) / (case.records * case.record_bytes)
            results.add(case.name, "stored", STORED, way.name, stored)
            _measure("consume", case, way, topic, results)


def _measure(operation: str, case: Case, way: Way, topic: str, results: Results) -> None:
    before = way.cpu_seconds()
    if case.client == "java":
        answer = getattr(java, operation)(case, way, topic)
    else:
        answer = run_client(job_of(case, way, topic) | {"operation": operation})
    used = way.cpu_seconds() - before
    rate = answer.get("timed_bytes", answer["bytes"]) / MB / answer["seconds"]
    results.add(case.name, operation, RATE, way.name, rate)
    if way.pid is not None:
        results.add(case.name, operation, CPU, way.name, used / (answer["bytes"] / GB))


@contextmanager
def topic_for(
    case: Case, way: str, bench: BenchCluster, *, config: Mapping[str, str | int] | None = None
) -> Iterator[str]:
    """A topic of one round and way, deleted afterwards."""
    topic = f"{case.topic_stem}-{way}-{uuid.uuid4().hex[:8]}"
    limit = {"max.message.bytes": RECORD_MODE_LIMIT} if case.keys else {}
    bench.cluster.create_topic(topic, PARTITIONS, config={**limit, **(config or {})})
    try:
        yield topic
    finally:
        bench.cluster.delete_topic(topic)


def job_of(case: Case, way: Way, topic: str) -> dict[str, Any]:
    """What a librdkafka client is to do."""
    return {
        "bootstrap": way.bootstrap,
        "settings": way.librdkafka,
        "topic": topic,
        "partitions": PARTITIONS,
        "records": case.records,
        "record_bytes": case.record_bytes,
        "codec": case.codec,
        "keys": case.keys,
    }
