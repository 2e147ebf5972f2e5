"""What a partition costs as there are more of them in one request: the core of the proxy without sockets.

Batches are tiny, so that what is spent on frames shows. Plain topics pass through the same code but for the sealing;
from sealed ones the time of the sealing alone is taken off.
"""

from collections.abc import Callable, Mapping

from tests.bench.cases import EACH_PARTITION, TIMES, Case
from tests.bench.micro import batch_costs, microseconds, produced_batch
from tests.bench.results import Results
from tests.bench.ways import KVEIL
from tests.bench.whole_way import PLAIN_TOPIC, TOPIC, fetch_call, metadata_call, produce_call

SIZES = (1, 10, 100, 1_000)
"""Partitions in one Produce or Fetch."""
METADATA_SIZES = (10, 100, 1_000, 10_000)
"""Partitions in one Metadata."""
RECORD_BYTES = 100


def growth_round(case: Case, results: Results) -> None:
    """Every kind at every size."""
    batch = bytes(produced_batch(1, RECORD_BYTES))
    alone = batch_costs(1, RECORD_BYTES)
    for name, call, work, words in (
        ("Produce", produce_call, alone["check and seal"], "without the sealing"),
        ("Fetch", fetch_call, alone["peek and unseal"], "without the opening"),
    ):
        plain = {size: microseconds(call(batch, topic=PLAIN_TOPIC, partitions=size)) for size in SIZES}
        sealed = {size: microseconds(call(batch, topic=TOPIC, partitions=size)) for size in SIZES}
        _add(case, f"{name}, plain", plain, results)
        _add(case, f"{name}, sealed", sealed, results)
        _add(case, f"{name}, sealed, {words}", {size: sealed[size] - size * work for size in SIZES}, results)
    for each in (10, 1):
        calls = {size: metadata_call(size // each, each) for size in METADATA_SIZES}
        topics = "10 partitions a topic" if each == 10 else "1 partition a topic"
        _add(case, f"Metadata, {topics}", _timed(calls), results)


def _timed(calls: Mapping[int, Callable[[], None]]) -> dict[int, float]:
    return {size: microseconds(call) for size, call in calls.items()}


def _add(case: Case, name: str, took: Mapping[int, float], results: Results) -> None:
    """Microseconds of each partition, and how the largest request compares with one of a tenth."""
    for size, cost in took.items():
        results.add(case.name, f"{name}, {size:,}", EACH_PARTITION, KVEIL, cost / size)
    most = max(took)
    before = most // 10
    results.add(case.name, f"{name}, {most:,} over {before:,}", TIMES, KVEIL, took[most] / took[before] / 10)
