"""What one proxy process moves when neither broker nor client is in its way."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.bench.cases import CPU, MB, RATE, Case
from tests.bench.cluster import BenchCluster
from tests.bench.results import Results
from tests.bench.rounds import GB, run_client
from tests.bench.ways import DIRECT, FORWARDER, KVEIL, LOG, Way, forwarder_process
from tests.support.ports import reserved_ports
from tests.support.processes import Child
from tests.support.proxy import kveil_proxy

SINK = "tests.bench.sink"
SOURCE = "tests.bench.source"
START_SECONDS = 30.0


@contextmanager
def sink_ways() -> Iterator[list[Way]]:
    """Direct, the forwarder and Kveil, in front of a sink."""
    with ExitStack() as stack:
        sink = stack.enter_context(Child([sys.executable, "-m", SINK]))
        port = int(next(sink.lines.read(START_SECONDS)))
        (between,) = stack.enter_context(reserved_ports(1))
        forwarder = stack.enter_context(forwarder_process(between, port))
        proxy = stack.enter_context(kveil_proxy(f"127.0.0.1:{port}", config={"log": LOG}))
        yield [
            Way(name=DIRECT, bootstrap=f"127.0.0.1:{port}"),
            Way(name=FORWARDER, bootstrap=f"127.0.0.1:{between}", pid=forwarder.pid),
            Way(name=KVEIL, bootstrap=proxy.bootstrap, pid=proxy.pid),
        ]


def alone_round(case: Case, ways: list[Way], bench: BenchCluster, results: Results) -> None:
    """Each way once: produce, then fetch what came of it."""
    for way in ways:
        for operation in ("produce", "consume"):
            job = {
                "operation": operation,
                "port": int(way.bootstrap.rpartition(":")[2]),
                "topic": f"{case.topic_stem}-{way.name}",
                "record_bytes": case.record_bytes,
                "payload_bytes": case.payload_bytes,
            }
            before = way.cpu_seconds()
            answer = run_client(job, SOURCE)
            results.add(case.name, operation, RATE, way.name, answer["bytes"] / MB / answer["seconds"])
            if way.pid is not None:
                used = way.cpu_seconds() - before
                results.add(case.name, operation, CPU, way.name, used / (answer["bytes"] / GB))
