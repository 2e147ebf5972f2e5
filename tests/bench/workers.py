"""Two worker processes beside one: what the second costs, and how the load spreads."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.bench.cases import CPU, MB, RATE, TIMES, Case
from tests.bench.cluster import BenchCluster
from tests.bench.results import Results
from tests.bench.rounds import GB, job_of, run_clients, topic_for
from tests.bench.usage import cpu_seconds, cpu_seconds_by_process
from tests.bench.ways import KVEIL, LOG, Way
from tests.support.proxy import kveil_proxy

CLIENTS = 8
WORKERS = 2
ONE_WORKER = "kveil, 1 worker"


@dataclass(frozen=True, slots=True)
class Load:
    """What a way's processes did during one operation."""

    cpu_per_gb: float
    busier_share: float
    """Of the CPU time of all children, that of the one that had most."""


@contextmanager
def worker_ways(bench: BenchCluster) -> Iterator[list[Way]]:
    """Kveil with one process, and with two workers."""
    with ExitStack() as stack:
        ways = []
        for name, workers in ((ONE_WORKER, 1), (KVEIL, WORKERS)):
            config = {"log": LOG, "workers": workers}
            proxy = stack.enter_context(kveil_proxy(bench.direct, config=config))
            ways.append(Way(name=name, bootstrap=proxy.bootstrap, pid=proxy.pid))
        yield ways


def workers_round(case: Case, ways: list[Way], bench: BenchCluster, results: Results) -> None:
    """Each way once: eight clients produce at once, each into a topic of its own, then eight consume them."""
    loads: dict[tuple[str, str], Load] = {}
    for way in ways:
        with ExitStack() as stack:
            topics = [stack.enter_context(topic_for(case, f"client{each}", bench)) for each in range(CLIENTS)]
            for operation in ("produce", "consume"):
                loads[way.name, operation] = _measure(operation, case, way, topics, results)
    for operation in ("produce", "consume"):
        one, two = loads[ONE_WORKER, operation], loads[KVEIL, operation]
        results.add(case.name, operation, TIMES, KVEIL, two.cpu_per_gb / one.cpu_per_gb)
        results.add(case.name, operation, "share", KVEIL, two.busier_share)


def _measure(operation: str, case: Case, way: Way, topics: list[str], results: Results) -> Load:
    assert way.pid is not None
    jobs = [
        job_of(case, way, topic) | {"operation": operation, "records": max(case.records // CLIENTS, 1)}
        for topic in topics
    ]
    cpu, each = cpu_seconds(way.pid), cpu_seconds_by_process(way.pid)
    answers = run_clients(jobs)
    used = cpu_seconds(way.pid) - cpu
    children = {
        pid: spent - each.get(pid, 0.0) for pid, spent in cpu_seconds_by_process(way.pid).items() if pid != way.pid
    }
    moved = sum(answer["bytes"] for answer in answers)
    load = Load(used / (moved / GB), max(children.values(), default=0.0) / (sum(children.values()) or 1.0))
    results.add(case.name, operation, CPU, way.name, load.cpu_per_gb)
    results.add(case.name, operation, RATE, way.name, moved / MB / max(answer["seconds"] for answer in answers))
    return load
