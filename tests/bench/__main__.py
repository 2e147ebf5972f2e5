"""`python -m tests.bench`: measure, and print what came of it."""

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import psutil

from tests.bench.cases import CASES, Case, select, smaller
from tests.bench.cluster import BenchCluster, bench_cluster
from tests.bench.results import Results, print_table
from tests.bench.rounds import latency_round, throughput_round
from tests.bench.startup import start_round
from tests.bench.ways import Way, other_proxy, plain_ways, tls_ways

ROUNDS = 5
QUICK_ROUNDS = 2


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="What sealing costs.")
    parser.add_argument("--quick", action="store_true", help="fewer cases, less load: about two minutes")
    parser.add_argument("--cases", default="", help="names or patterns, with commas: 1KiB-*,latency-200")
    parser.add_argument("--rounds", type=int, default=0, help=f"default {ROUNDS}, or {QUICK_ROUNDS} with --quick")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    parser.add_argument("--list", action="store_true", help="name the cases, and measure nothing")
    parser.add_argument(
        "--proxy",
        action="append",
        default=[],
        type=other_proxy,
        metavar="NAME=HOST:PORT:PID",
        help="another proxy over the same broker; start it with 127.0.0.1 and --broker-port as its upstream",
    )
    parser.add_argument("--broker-port", type=int, default=0, help="the broker's port, if it must be known before")
    parser.add_argument("--shrink", type=float, default=1.0, help="divide the load by this, to try it out")
    return parser.parse_args(given)


def measure(cases: Sequence[Case], rounds: int, bench: BenchCluster, others: Sequence[Way]) -> Results:
    """All rounds of all cases."""
    results = Results()
    for tls in (False, True):
        loads = [case for case in cases if case.tls is tls and case.kind != "start"]
        if not loads:
            continue
        ways: AbstractContextManager[list[Way]] = tls_ways(bench) if tls else plain_ways(bench, others)
        with ways as open_ways:
            for case in loads:
                say(f"{case.name}: {rounds} rounds")
                for _ in range(rounds):
                    (latency_round if case.kind == "latency" else throughput_round)(case, open_ways, bench, results)
    for case in (case for case in cases if case.kind == "start"):
        say(f"{case.name}: {rounds} rounds")
        for _ in range(rounds):
            start_round(case, bench.direct, results)
    return results


def say(text: str) -> None:
    """A line of progress, beside the results."""
    print(text, file=sys.stderr, flush=True)


def about(rounds: int, began: float) -> dict[str, object]:
    """What is worth knowing about the run. A load above 0 before it means that others used the machine."""
    return {
        "rounds": rounds,
        "seconds": round(time.monotonic() - began, 1),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def main(given: Sequence[str]) -> int:
    """Measure as told; the exit code says whether it could be done, not whether goals were met."""
    options = arguments(given)
    if options.list:
        print("\n".join(case.name for case in CASES))
        return 0
    cases = select([name for name in options.cases.split(",") if name], quick=options.quick)
    if not cases:
        say("no case has such a name: --list shows them")
        return 2
    cases = [smaller(case, options.shrink) for case in cases] if options.shrink != 1 else cases
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    began = time.monotonic()
    say("starting the broker")
    with bench_cluster(options.broker_port) as bench:
        results = measure(cases, rounds, bench, options.proxy)
    print_table(results)
    if options.json:
        results.write_json(options.json, about(rounds, began))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
