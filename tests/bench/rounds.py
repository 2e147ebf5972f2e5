"""One measurement after the other, the ways interleaved, so that what slows the machine down slows all of them."""

import json
import sys
import uuid
from collections.abc import Sequence
from typing import Any

from tests.bench import java
from tests.bench.cases import ACK, CPU, CPU_REQUEST, MB, RATE, STORED, Case
from tests.bench.cluster import PARTITIONS, BenchCluster
from tests.bench.results import Results
from tests.bench.ways import DIRECT, Way
from tests.support.processes import run

CLIENT_SECONDS = 300.0
GB = 1_000_000_000


class ClientFailedError(RuntimeError):
    """A client ended with an error."""


def run_client(what: str, job: dict[str, Any]) -> dict[str, float]:
    """Run the librdkafka client to its end."""
    done = run([sys.executable, "-m", "tests.bench.client", what, json.dumps(job)], timeout=CLIENT_SECONDS)
    if done.returncode:
        raise ClientFailedError(f"{what} by {job['bootstrap']} failed:\n{done.stderr[-2000:]}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def throughput_round(case: Case, ways: Sequence[Way], bench: BenchCluster, results: Results) -> None:
    """Each way once: produce into a topic of its own, then consume it."""
    for way in ways:
        topic = _topic(case, way)
        bench.cluster.create_topic(topic, partitions=PARTITIONS)
        try:
            for operation in ("produce", "consume"):
                _measure(operation, case, way, topic, results)
                if operation == "produce":
                    stored = bench.stored_bytes(topic) / (case.records * case.record_bytes)
                    results.add(case.name, "stored", STORED, way.name, stored)
        finally:
            bench.cluster.delete_topic(topic)


def _measure(operation: str, case: Case, way: Way, topic: str, results: Results) -> None:
    before = way.cpu_seconds()
    if case.client == "java":
        answer = getattr(java, operation)(case, way, topic)
    else:
        answer = run_client(operation, _job(case, way, topic))
    used = way.cpu_seconds() - before
    results.add(
        case.name, operation, RATE, way.name, answer.get("timed_bytes", answer["bytes"]) / MB / answer["seconds"]
    )
    if way.pid is not None:
        results.add(case.name, operation, CPU, way.name, used / (answer["bytes"] / GB))


def latency_round(case: Case, ways: Sequence[Way], bench: BenchCluster, results: Results) -> None:
    """Each way once: acknowledgements at a steady pace."""
    direct: dict[str, float] = {}
    for way in ways:
        topic = _topic(case, way)
        bench.cluster.create_topic(topic, partitions=PARTITIONS)
        before = way.cpu_seconds()
        try:
            answer = run_client("latency", _job(case, way, topic))
        finally:
            bench.cluster.delete_topic(topic)
        requests = answer.pop("requests")
        if way.pid is not None:
            used = way.cpu_seconds() - before
            results.add(case.name, "request", CPU_REQUEST, way.name, used / requests * 1_000_000)
        direct = answer if way.name == DIRECT else direct
        for percentile, value in answer.items():
            results.add(case.name, percentile, ACK, way.name, value)
            if direct and way.name != DIRECT:
                results.add(case.name, f"added {percentile}", ACK, way.name, value - direct[percentile])


def _topic(case: Case, way: Way) -> str:
    return f"bench-{case.name}-{way.name}-{uuid.uuid4().hex[:8]}"


def _job(case: Case, way: Way, topic: str) -> dict[str, Any]:
    return {
        "bootstrap": way.bootstrap,
        "settings": way.librdkafka,
        "topic": topic,
        "partitions": PARTITIONS,
        "records": case.records,
        "record_bytes": case.record_bytes,
        "codec": case.codec,
        "messages_per_second": case.messages_per_second,
        "seconds": case.seconds,
    }
