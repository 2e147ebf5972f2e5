"""The other end of the sink: `python -m tests.bench.source JSON`, a line of JSON as its answer.

A client that costs next to nothing: one request, made once and sent again and again, several under way at a time, and
answers that are counted by their bytes and dropped.
"""

import json
import os
import socket
import sys
import time
from typing import Any

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.messages import decode_response, encode_request
from kveil.proxy.net.own_topic import plain_batch
from tests.bench.sink import BUFFER_BYTES, FETCH_VERSION, PRODUCE_VERSION, Stream
from tests.support.scripted_broker import frame_of

BATCH_RECORDS = 950
UNDER_WAY = {"produce": 5, "consume": 2}
"""Requests: as librdkafka has them when it produces; a consumer's next fetch and the one that is served."""
SECONDS = 60.0
TIMESTAMP = 1_700_000_000_000


def batch_of(records: int, record_bytes: int) -> bytes:
    """A producer's batch with random values."""
    return plain_batch([(None, os.urandom(record_bytes)) for _ in range(records)], TIMESTAMP)


def produce_frame(topic: str, batch: bytes) -> bytes:
    """A Produce request with one batch."""
    data = [{"name": topic, "partition_data": [{"index": 0, "records": batch}]}]
    values = {"acks": -1, "timeout": 30_000, "topic_data": data}
    return frame_of(encode_request(ApiKey.PRODUCE, PRODUCE_VERSION, 1, "source", values))


def fetch_frame(topic: str) -> bytes:
    """A Fetch request for whatever there is."""
    partitions = [{"partition": 0, "partition_max_bytes": BUFFER_BYTES}]
    values = {"replica_id": -1, "max_bytes": BUFFER_BYTES, "topics": [{"topic": topic, "partitions": partitions}]}
    return frame_of(encode_request(ApiKey.FETCH, FETCH_VERSION, 1, "source", values))


def move(job: dict[str, Any]) -> dict[str, float]:
    """Produce or consume so many bytes of values; one batch goes before the clock runs."""
    batch = batch_of(BATCH_RECORDS, job["record_bytes"])
    produce = produce_frame(job["topic"], batch)
    request = produce if job["operation"] == "produce" else fetch_frame(job["topic"])
    payload = BATCH_RECORDS * job["record_bytes"]
    count = max(job["payload_bytes"] // payload, 1)
    with socket.create_connection(("127.0.0.1", job["port"]), timeout=SECONDS) as connected:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = Stream(connected)
        connected.sendall(request)
        answer = stream.read_frame()
        _check(job["operation"], answer, payload)
        began = time.perf_counter()
        _pump(connected, request, len(answer), count, UNDER_WAY[job["operation"]])
        return {"seconds": time.perf_counter() - began, "bytes": count * payload}


def _check(operation: str, answer: memoryview, payload: int) -> None:
    """Look at the first answer: a refusal would come fast too."""
    if operation == "produce":
        (topic,) = decode_response(ApiKey.PRODUCE, PRODUCE_VERSION, answer[4:]).responses
        (partition,) = topic.partition_responses
    else:
        (topic,) = decode_response(ApiKey.FETCH, FETCH_VERSION, answer[4:]).responses
        (partition,) = topic.partitions
        if len(partition.records or b"") < payload:
            raise RuntimeError(f"{len(answer)} bytes were fetched where {payload} were expected")
    if partition.error_code:
        raise RuntimeError(f"{operation}: {partition.error_code.name}")


def _pump(connected: socket.socket, request: bytes, answer_bytes: int, count: int, under_way: int) -> None:
    scratch = memoryview(bytearray(BUFFER_BYTES))
    sent = received = 0
    while received < count * answer_bytes:
        while sent < count and sent - received // answer_bytes < under_way:
            connected.sendall(request)
            sent += 1
        size = connected.recv_into(scratch)
        if not size:
            raise ConnectionError("closed by the other side")
        received += size


if __name__ == "__main__":
    print(json.dumps(move(json.loads(sys.argv[1]))))
