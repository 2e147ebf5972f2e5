"""How long a message takes: to its acknowledgement, and to its consumer."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from tests.bench.cases import ACK, CPU_REQUEST, END_TO_END, Case
from tests.bench.cluster import BenchCluster
from tests.bench.results import Results
from tests.bench.rounds import job_of, run_client, topic_for
from tests.bench.ways import Way

PACED = "tests.bench.paced"


def latency_round(case: Case, ways: Sequence[Way], bench: BenchCluster, results: Results) -> None:
    """Acknowledgements at a steady pace, by all ways in turns."""
    for way, found in _measure(case, ways, bench, consumes=False).items():
        for operation, value in found.items():
            results.add(case.name, operation, CPU_REQUEST if operation == "request" else ACK, way, value)


def end_to_end_round(case: Case, ways: Sequence[Way], bench: BenchCluster, results: Results) -> None:
    """From producing to consuming. The proxy serves the consumer too, so its time per request isn't Produce's alone."""
    for way, found in _measure(case, ways, bench, consumes=True).items():
        for operation, value in found.items():
            if operation != "request":
                results.add(case.name, operation, END_TO_END, way, value)


def _measure(case: Case, ways: Sequence[Way], bench: BenchCluster, *, consumes: bool) -> dict[str, dict[str, float]]:
    with ExitStack() as stack:
        topics = [stack.enter_context(topic_for(case, way.name, bench)) for way in ways]
        job: dict[str, Any] = {
            "ways": [
                job_of(case, way, topic) | {"name": way.name, "pid": way.pid}
                for way, topic in zip(ways, topics, strict=True)
            ],
            "per_second": case.messages_per_second,
            "seconds": case.seconds,
            "record_bytes": case.record_bytes,
            "consumes": consumes,
        }
        return run_client(job, PACED)
