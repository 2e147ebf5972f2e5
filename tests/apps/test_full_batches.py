"""Producers that leave no room for what sealing adds end with everything delivered, or with a clean error."""

import random
from pathlib import Path

import pytest

from tests.support import java
from tests.support.clients import Record, Sender
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy

SECONDS = 120.0
MIB = 1024 * 1024
COUNT, SIZE = 4000, 1000
REFUSALS = {"MESSAGE_TOO_LARGE", "OUT_OF_ORDER_SEQUENCE_NUMBER"}


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> str:
    """The compiled producer."""
    return java.compile_java(tmp_path_factory.mktemp("classes"), Path(__file__).parent / "java" / "FullBatches.java")


def fill_batches(program: str, bootstrap: str, topic: str, kind: str, **settings: str) -> dict[str, int]:
    """How many records had which outcome."""
    values = {
        "bootstrap.servers": bootstrap,
        "batch.size": str(MIB),
        "linger.ms": "1000",
        "buffer.memory": str(64 * MIB),
        "delivery.timeout.ms": "60000",
        "request.timeout.ms": "20000",
        **{name.replace("_", "."): value for name, value in settings.items()},
    }
    with java.properties_file(values) as path:
        arguments = (str(path), topic, str(COUNT), str(SIZE), kind)
        with java.start_java_tool("FullBatches", *arguments, extra_jars=[program]) as run:
            assert run.wait(SECONDS) == 0
            lines = [line.split() for line in run.lines.so_far()]
    return {outcome: int(records) for outcome, records in lines}


@pytest.mark.parametrize("codec", ["none", "gzip", "lz4"])
def test_java_with_records_that_shrink(kafka: Cluster, proxy: Proxy, topic: str, program: str, codec: str):
    kafka.create_topic(topic)
    assert fill_batches(program, proxy.bootstrap, topic, "text", compression_type=codec) == {"delivered": COUNT}


@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_java_with_records_that_do_not(kafka: Cluster, proxy: Proxy, topic: str, program: str, codec: str):
    """Every record has an outcome, and what was not delivered was too large."""
    kafka.create_topic(topic)
    outcomes = fill_batches(program, proxy.bootstrap, topic, "random", compression_type=codec)
    assert sum(outcomes.values()) == COUNT
    assert set(outcomes) <= {"delivered", "RecordTooLargeException", "RecordBatchTooLargeException"}
    assert not [line for line in proxy.events("produce_refused") if line["error"] not in REFUSALS]


@pytest.mark.parametrize("kind", ["random", "text"])
def test_librdkafka_with_its_defaults(kafka: Cluster, proxy: Proxy, topic: str, kind: str):
    kafka.create_topic(topic)
    noise = random.Random(1).randbytes(COUNT + SIZE) if kind == "random" else bytes(COUNT + SIZE)
    sender = Sender(proxy.bootstrap, topic, enable_idempotence=True, linger_ms=500)
    for number in range(COUNT):
        sender.send(Record(value=noise[number : number + SIZE]))
    sender.flush()
    assert (sender.delivered, sender.errors) == (COUNT, [])
