"""`python -m tests.bench`: measure, and print what came of it."""

import argparse
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import psutil

from tests.bench.alone import alone_round, sink_ways
from tests.bench.cases import CASES, WARM_UP, Case, select, smaller
from tests.bench.cluster import BenchCluster, bench_cluster
from tests.bench.growth import growth_round
from tests.bench.identities import identity_ways
from tests.bench.identity_costs import costs_round
from tests.bench.joining import enrol_round, many_keys_round
from tests.bench.latency import end_to_end_round, latency_round
from tests.bench.memory import ROOM, connections_round, load_round
from tests.bench.picture import picture
from tests.bench.report import as_json, write_docs
from tests.bench.results import Results
from tests.bench.revoking import revocation_round
from tests.bench.rounds import throughput_round
from tests.bench.startup import start_round
from tests.bench.tables import print_tables
from tests.bench.ways import Way, other_proxy, plain_ways, tls_ways
from tests.bench.workers import worker_ways, workers_round

QUICK_ROUNDS = 1

Round = Callable[[Case, list[Way], BenchCluster, Results], None]

ROUND_OF: dict[str, Round] = {
    "throughput": throughput_round,
    "latency": latency_round,
    "end-to-end": end_to_end_round,
    "alone": alone_round,
    "memory": load_round,
    "connections": connections_round,
    "workers": workers_round,
    "start": lambda case, _, bench, results: start_round(case, bench.direct, results),
    "growth": lambda case, _, __, results: growth_round(case, results),
    "identities": throughput_round,
    "identity-costs": lambda case, _, __, results: costs_round(case, results),
    "enroll": lambda case, _, bench, results: enrol_round(case, bench, results),
    "many-keys": lambda case, _, bench, results: many_keys_round(case, bench, results),
    "revocation": lambda case, _, bench, results: revocation_round(case, bench, results),
}
"""What a round of each kind of case does."""

ORDINARY = ("throughput", "latency", "end-to-end")
"""The kinds that share ways to the broker."""

WARM_UP_OF: dict[str, Round] = {
    **dict.fromkeys(ORDINARY, throughput_round),
    "alone": alone_round,
    "workers": workers_round,
    "identities": throughput_round,
}
"""What new processes do first, uncounted. Not where memory is measured: there it would count."""


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="What sealing costs.")
    parser.add_argument("--quick", action="store_true", help="fewer cases, less load: about four minutes")
    parser.add_argument("--cases", default="", help="names or patterns, with commas: 1KiB-*,latency-200")
    parser.add_argument("--rounds", type=int, default=0, help=f"as each case has it, or {QUICK_ROUNDS} with --quick")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a picture there")
    renewed = "renew performance.svg, .json and .md there; with --cases, what they have of these cases"
    parser.add_argument("--docs", type=Path, metavar="FOLDER", help=renewed)
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


def stages(
    cases: Sequence[Case], bench: BenchCluster, others: Sequence[Way]
) -> Iterator[tuple[AbstractContextManager[list[Way]], list[Case]]]:
    """The cases that share processes, with what starts these.

    What memory a process takes depends on its past, so each case of that has new ones.
    """
    ordinary = [case for case in cases if case.kind in ORDINARY]
    yield plain_ways(bench, others), [case for case in ordinary if not case.tls]
    yield tls_ways(bench), [case for case in ordinary if case.tls]
    yield identity_ways(bench), [case for case in cases if case.kind == "identities"]
    for case in cases:
        match case.kind:
            case "alone":
                yield sink_ways(), [case]
            case "memory" | "connections":
                yield plain_ways(bench, others, ROOM), [case]
            case "workers":
                yield worker_ways(bench), [case]
            case "start" | "growth" | "identity-costs" | "enroll" | "many-keys" | "revocation":
                yield nullcontext([]), [case]


def measure(
    cases: Sequence[Case], rounds: int, bench: BenchCluster, others: Sequence[Way], warm_up: Case
) -> tuple[Results, list[Case]]:
    """All rounds of all cases, and the cases that failed; `rounds` is 0 for as many as each case has."""
    results, failed = Results(), list[Case]()
    for start, together in stages(cases, bench, others):
        if not together:
            continue
        with start as ways:
            if warm := WARM_UP_OF.get(together[0].kind):
                warm(warm_up, ways, bench, Results())
            for case in together:
                say(f"{case.name}: {rounds or case.rounds} rounds")
                try:
                    for _ in range(rounds or case.rounds):
                        ROUND_OF[case.kind](case, ways, bench, results)
                except Exception:  # what the other cases have found isn't worth less
                    failed.append(case)
                    traceback.print_exc()
    return results, failed


def rounds_in_words(rounds: int) -> str:
    """How many rounds were told."""
    return f"{rounds} round{'s' if rounds > 1 else ''} of each case" if rounds else "as many rounds as each case has"


def say(text: str) -> None:
    """A line of progress, beside the results."""
    print(text, file=sys.stderr, flush=True)


def about_machine() -> dict[str, Any]:
    """What is worth knowing before a run. A load far above 0 means that others use the machine."""
    return {
        "load_average_before": os.getloadavg(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
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
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else 0)
    run, began = about_machine(), time.monotonic()
    say("starting the broker")
    with bench_cluster(options.broker_port) as bench:
        results, failed = measure(cases, rounds, bench, options.proxy, smaller(WARM_UP, options.shrink))
    print_tables(results)
    run |= {"rounds": rounds_in_words(rounds), "quick": options.quick, "seconds": round(time.monotonic() - began, 1)}
    if options.json:
        options.json.write_text(as_json(results, run))
    if options.svg:
        options.svg.write_text(picture(results))
    if options.docs:
        write_docs(options.docs, results, run, cases=[case.name for case in cases] if options.cases else ())
    if failed:
        say(f"failed: {', '.join(case.name for case in failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
