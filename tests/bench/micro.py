"""The hot functions alone: `python -m tests.bench.micro`, microseconds a call.

The smallest of many repeats counts: whatever else the machine does only adds to it.
"""

import argparse
import itertools
import os
import sys
import timeit
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from crc32c import crc32c
from rich.console import Console
from rich.table import Table

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.batch import peek, seal, unseal
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_schedule import EpochKey, KeyHidingKey, derive_kid, new_epoch_key_secret
from kveil.protocol.envelope.record import peek_records, seal_records, unseal_records
from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.messages import encode_request, encode_response
from kveil.protocol.kafka.record_batch import HEADER_LENGTH, BatchHeader, check_produced, read_header, write_header
from kveil.protocol.kafka.records import write_record
from kveil.protocol.kafka.splice import Edit, request_walker, response_walker, splice
from kveil.proxy.apis.fetch import Fetch
from kveil.proxy.apis.metadata import Metadata
from kveil.proxy.apis.produce import Produce
from kveil.proxy.process import keep_freed_memory
from tests.bench.whole_way import fetch_call, produce_call

REPEATS = 40
REPEAT_SECONDS = 0.01
PRODUCE_VERSION, FETCH_VERSION, METADATA_VERSION = 11, 16, 12
BATCHES = ((1, 100), (1, 1024), (160, 100), (16, 1024), (1000, 100), (950, 1024), (95, 10_240), (10_000, 80))
"""Records and bytes of each."""
RECORD_BATCHES = ((160, 100), (100, 1024))
"""The same, in record mode."""
FEW_KEYS = 10
BATCHES_OF_KEYS = 100
"""Batches before any key comes again."""


def microseconds(call: Callable[[], object]) -> float:
    """The time of one call, at best."""
    call()
    timer = timeit.Timer(call)
    count = 1
    while (took := timer.timeit(count)) < REPEAT_SECONDS:
        count = max(count * 2, int(count * REPEAT_SECONDS / max(took, 1e-9)))
    return min(timer.repeat(REPEATS, count)) / count * 1e6


def epoch_key(topic: str = "bench") -> EpochKey:
    """A key as the key ring holds it."""
    secret = new_epoch_key_secret()
    kid = derive_kid(secret, realm="bench", topic=topic, provider=registry.KEY_FILE)
    block = KeyBlock(
        provider=registry.KEY_FILE,
        name="default",
        mechanism=registry.KVEIL_WRAP,
        version="1",
        wrapped=os.urandom(72),
    )
    return EpochKey(secret=secret, realm="bench", topic=topic, kid=kid, block=block)


def produced_batch(records: int, record_bytes: int, section: bytes | None = None) -> bytearray:
    """A producer's batch. Its records are noise unless given: nothing in batch mode looks into them."""
    section = section or os.urandom(records * (record_bytes + 10))
    header = write_header(
        records=[section],
        base_offset=0,
        partition_leader_epoch=-1,
        attributes=0,
        last_offset_delta=records - 1,
        base_timestamp=1,
        max_timestamp=2,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        record_count=records,
    )
    return bytearray(header + section)


def batch_costs(records: int, record_bytes: int) -> dict[str, float]:
    """Of one batch: checked and sealed, looked at and opened, and what of it the checksum is."""
    key = epoch_key()
    batch = memoryview(produced_batch(records, record_bytes))
    header = check_produced(batch)
    sealed = bytearray(b"".join(seal(batch[:], header, key=key, partition=0)))
    # Sealing writes over the end of the header and opening closes up the ciphertext: each time on a fresh copy.
    fresh_batch, fresh_sealed = produced_batch(records, record_bytes), bytes(sealed)
    head = bytes(fresh_batch[:HEADER_LENGTH])

    def seal_one() -> object:
        fresh_batch[:HEADER_LENGTH] = head
        view = memoryview(fresh_batch)
        return seal(view, check_produced(view), key=key, partition=0)

    def copy_one() -> object:
        return bytearray(fresh_sealed)

    def open_one() -> object:
        view = memoryview(bytearray(fresh_sealed))
        return unseal(peek(view, read_header(view)), key=key, partition=0)

    copied = microseconds(copy_one)
    return {
        "check and seal": microseconds(seal_one),
        "peek and unseal": microseconds(open_one) - copied,
        "CRC-32C once": microseconds(lambda: crc32c(fresh_batch)),
    }


def keyed_batch(keys: Sequence[bytes], record_bytes: int) -> bytearray:
    """A producer's batch with a record for each key."""
    written = [write_record(place // 4, place, key, os.urandom(record_bytes)) for place, key in enumerate(keys)]
    return produced_batch(len(keys), record_bytes, b"".join(map(b"".join, written)))


def record_costs(records: int, record_bytes: int) -> dict[str, float]:
    """Of one record of a batch in record mode: sealed, looked at and opened; keys repeated, distinct, or shown."""
    repeated = [[b"key-%08d" % (each % FEW_KEYS) for each in range(records)]]
    distinct = [[b"key-%08d" % (turn * records + each) for each in range(records)] for turn in range(BATCHES_OF_KEYS)]
    costs = {}
    for how, keys in (("keys repeated", repeated), ("keys distinct", distinct), ("keys shown", repeated)):
        batches = [memoryview(keyed_batch(each, record_bytes)) for each in keys]
        seal_next, open_next = record_calls(batches, hides=how != "keys shown")
        costs[f"seal, {how}"] = microseconds(seal_next) / records
        costs[f"peek and unseal, {how}"] = microseconds(open_next) / records
    return costs


def record_calls(batches: Sequence[memoryview], *, hides: bool) -> tuple[Callable[[], object], Callable[[], object]]:
    """Calls that seal and open one batch after the other, round and round.

    Several batches have keys that none of the others has. When their turn comes again the hiding key is a new one, so
    that keys that it remembers are no help.
    """
    key = epoch_key()
    hiding_id, secret = os.urandom(16), os.urandom(32)
    produced = [(batch, check_produced(batch)) for batch in batches]

    def new_hiding_key() -> KeyHidingKey | None:
        return KeyHidingKey(id=hiding_id, secret=secret, realm="bench", topic="bench") if hides else None

    def hiding_keys() -> Iterator[KeyHidingKey | None]:
        hiding = new_hiding_key()
        while True:
            yield from itertools.repeat(hiding, len(batches))
            hiding = new_hiding_key() if len(batches) > 1 else hiding

    def seal_one(batch: memoryview, header: BatchHeader, hiding: KeyHidingKey | None) -> bytes:
        return b"".join(seal_records(batch, header, key=key, hiding=hiding, partition=0))

    def open_one(sealed: memoryview, hiding: KeyHidingKey | None) -> object:
        peeked = peek_records(sealed, read_header(sealed))
        return unseal_records(peeked, keys=dict.fromkeys(peeked.keys, key), hiding=hiding, partition=0)

    seal_keys, open_keys = hiding_keys(), hiding_keys()
    to_seal = itertools.cycle(produced)
    to_open = itertools.cycle([memoryview(seal_one(*each, new_hiding_key())) for each in produced])
    return lambda: seal_one(*next(to_seal), next(seal_keys)), lambda: open_one(next(to_open), next(open_keys))


def frame_costs() -> dict[str, float]:
    """Of frames: a walk over each kind that is rewritten, and a splice."""
    batch = bytes(produced_batch(16, 1024))
    partitions = [{"index": each, "records": batch} for each in range(3)]
    values: dict[str, Any] = {"acks": -1, "topic_data": [{"name": "bench", "partition_data": partitions}]}
    request = memoryview(encode_request(ApiKey.PRODUCE, PRODUCE_VERSION, 1, "bench", values))
    walk_produce = request_walker(ApiKey.PRODUCE, PRODUCE_VERSION, Produce.REQUEST)
    spans = [span for _, _, span in walk_produce(request).values[2][0][4]]
    edits = [Edit(start, end, [b"1234", batch]) for start, _, end in spans]

    fetched = [{"partition_index": each, "high_watermark": 1, "records": batch} for each in range(3)]
    answer = memoryview(
        encode_response(ApiKey.FETCH, FETCH_VERSION, 1, {"responses": [{"topic_id": bytes(16), "partitions": fetched}]})
    )
    walk_fetch = response_walker(ApiKey.FETCH, FETCH_VERSION, Fetch.RESPONSE, drop_unknown=True)

    rows = [
        {"partition_index": each, "leader_id": 1, "replica_nodes": (1, 2, 3), "isr_nodes": (1, 2, 3)}
        for each in range(10_000)
    ]
    metadata = memoryview(
        encode_response(
            ApiKey.METADATA,
            METADATA_VERSION,
            1,
            {"brokers": [], "cluster_id": "c", "topics": [{"name": "t", "topic_id": bytes(16), "partitions": rows}]},
        )
    )
    walk_metadata = response_walker(ApiKey.METADATA, METADATA_VERSION, Metadata.RESPONSE, drop_unknown=True)
    return {
        "walk a Produce of 3 partitions": microseconds(lambda: walk_produce(request)),
        "splice it": microseconds(lambda: splice(request, edits)),
        "walk a Fetch answer of 3 partitions": microseconds(lambda: walk_fetch(answer)),
        "walk a Metadata answer of 10,000 partitions": microseconds(lambda: walk_metadata(metadata)),
    }


def session_costs(batches: tuple[tuple[int, int], ...]) -> dict[str, float]:
    """Of a request and its answer, through all but the sockets."""
    costs = {}
    for records, record_bytes in batches:
        batch = bytes(produced_batch(records, record_bytes))
        what = f"of one batch, {records} x {record_bytes} B"
        costs[f"Produce and its answer, {what}"] = microseconds(produce_call(batch))
        costs[f"Fetch and its answer, {what}"] = microseconds(fetch_call(batch))
    return costs


def main(given: list[str]) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.micro", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer kinds of batches")
    options = parser.parse_args(given)
    keep_freed_memory()  # as the proxy does; page faults would be all that is seen
    console = Console(highlight=False)
    batches = BATCHES[:3] if options.quick else BATCHES
    table = Table("records", "bytes of each", "batch bytes", "", "us", "CPU-s/GB", box=None)
    for records, record_bytes in batches:
        size = records * record_bytes
        for what, cost in batch_costs(records, record_bytes).items():
            table.add_row(f"{records}", f"{record_bytes}", f"{size}", what, f"{cost:.2f}", f"{cost * 1000 / size:.3f}")
    console.print(table)
    table = Table("records", "bytes of each", "in record mode", "us a record", box=None)
    for records, record_bytes in RECORD_BATCHES:
        for what, cost in record_costs(records, record_bytes).items():
            table.add_row(f"{records}", f"{record_bytes}", what, f"{cost:.2f}")
    console.print(table)
    table = Table("frame", "us", box=None)
    for what, cost in (session_costs(batches) | frame_costs()).items():
        table.add_row(what, f"{cost:.2f}")
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
