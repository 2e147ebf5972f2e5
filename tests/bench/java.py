"""Kafka's own performance tools as clients, and what they say of themselves."""

import re

from tests.bench.cases import MB, Case
from tests.bench.ways import Way
from tests.support.java import CONSUMER_PERFORMANCE, PRODUCER_PERFORMANCE, java_tool, properties_file

HEAP_MB = 512
TIMEOUT_SECONDS = 300.0
MIB = 1024 * 1024
# The harness starts tools fast; these run for a while.
OPTIONS = ("-XX:TieredStopAtLevel=4",)
PRODUCED = re.compile(r"^\d+ records sent, .* \(([\d.]+) MB/sec\)", re.MULTILINE)


def produce(case: Case, way: Way, topic: str) -> dict[str, float]:
    """ProducerPerformance as fast as it goes."""
    settings = {"bootstrap.servers": way.bootstrap, "acks": "all", "linger.ms": "5", "batch.size": "262144"}
    settings |= {"compression.type": case.codec, **way.java}
    size = ("--num-records", str(case.records), "--record-size", str(case.record_bytes), "--throughput", "-1")
    with properties_file(settings) as path:
        done = java_tool(
            PRODUCER_PERFORMANCE,
            *("--topic", topic, *size, "--command-config", path),
            timeout=TIMEOUT_SECONDS,
            heap_mb=HEAP_MB,
            options=OPTIONS,
        )
    rates = PRODUCED.findall(done.stdout)
    if not rates:
        raise RuntimeError(f"ProducerPerformance said:\n{done.stdout}{done.stderr}")
    payload = case.records * case.record_bytes
    return {"seconds": payload / (float(rates[-1]) * MIB), "bytes": payload}


def consume(case: Case, way: Way, topic: str) -> dict[str, float]:
    """ConsumerPerformance over the whole topic."""
    with properties_file({"bootstrap.servers": way.bootstrap, **way.java}) as path:
        done = java_tool(
            CONSUMER_PERFORMANCE,
            *("--bootstrap-server", way.bootstrap, "--topic", topic, "--num-records", str(case.records)),
            *("--timeout", "30000", "--command-config", path),
            timeout=TIMEOUT_SECONDS,
            heap_mb=HEAP_MB,
            options=OPTIONS,
        )
    return _read_consumer_line(done.stdout)


def _read_consumer_line(output: str) -> dict[str, float]:
    """Its last line is a row of values; the header before it names them."""
    lines = [line for line in output.splitlines() if line.count(",") >= 8]
    if len(lines) < 2:
        raise RuntimeError(f"ConsumerPerformance said:\n{output}")
    row = dict(zip(*([cell.strip() for cell in line.split(",")] for line in (lines[0], lines[-1])), strict=False))
    size = float(row["data.consumed.in.MB"]) * MIB
    rate = float(row["fetch.MB.sec"]) * MIB
    return {"seconds": size / rate if rate else size / MB, "bytes": size}
