"""Kafka's own Java tools through the proxy do what they do without it."""

import json
import re
import uuid
from collections.abc import Iterator

import pytest

from tests.support import java
from tests.support.clients import Record, librdkafka_produce, librdkafka_read, untimed
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy

SECONDS = 60.0
T = 1_700_000_000_000
LINES = "h1:v1,h2:\tkey\tvalue\nNULL\tNULL\tno key\nh1:v1\tdelete\tNULL\nh1:NULL\tnull header\t\n"
TYPED = [
    Record(value=b"value", key=b"key", headers=(("h1", b"v1"), ("h2", b"")), offset=0),
    Record(value=b"no key", offset=1),
    Record(key=b"delete", headers=(("h1", b"v1"),), offset=2),
    Record(value=b"", key=b"null header", headers=(("h1", None),), offset=3),
]
READER = ("parse.key=true", "parse.headers=true", "null.marker=NULL")
PRINTED = ("timestamp", "key", "offset", "partition", "headers", "value")


def properties(option: str, values: Iterator[str] | tuple[str, ...]) -> list[str]:
    return [part for value in values for part in (option, value)]


def console_produce(bootstrap: str, topic: str, lines: str, *arguments: str) -> None:
    reach = ("--bootstrap-server", bootstrap, "--topic", topic)
    java.java_tool(java.CONSOLE_PRODUCER, *reach, *properties("--reader-property", READER), *arguments, stdin=lines)


def console_consume(bootstrap: str, topic: str, count: int, *arguments: str) -> list[str]:
    reach = ("--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning")
    limits = ("--max-messages", str(count), "--timeout-ms", "60000")
    printed = properties("--formatter-property", tuple(f"print.{name}=true" for name in PRINTED))
    return java.java_tool(java.CONSOLE_CONSUMER, *reach, *limits, *printed, *arguments).stdout.splitlines()


def test_console_tools(kafka: Cluster, proxy: Proxy, topic: str):
    """What the console producer sends is what other clients read, and the console consumer prints the same."""
    direct, sealed = f"{topic}-direct", f"{topic}-sealed"
    for name, bootstrap in ((direct, kafka.bootstrap), (sealed, proxy.bootstrap)):
        kafka.create_topic(name)
        console_produce(bootstrap, name, LINES)
    assert untimed(librdkafka_read(kafka.bootstrap, direct)) == TYPED
    read = librdkafka_read(proxy.bootstrap, sealed)
    assert untimed(read) == TYPED
    printed = console_consume(proxy.bootstrap, sealed, len(TYPED))
    assert [line.split("\t")[0] for line in printed] == [f"CreateTime:{record.timestamp}" for record in read]
    untimed_lines = [line.split("\t", 1)[1] for line in printed]
    expected = console_consume(kafka.bootstrap, direct, len(TYPED))
    assert untimed_lines == [line.split("\t", 1)[1] for line in expected]
    assert "\tkey\tvalue" in untimed_lines[0]


@pytest.mark.parametrize("protocol", ["classic", pytest.param("consumer", marks=pytest.mark.kafka4)])
def test_console_consumer_reads_other_clients_records(kafka: Cluster, proxy: Proxy, topic: str, protocol: str):
    """Line by line as from a topic that was never sealed."""
    direct, sealed = f"{topic}-direct", f"{topic}-sealed"
    records = [
        Record(value=b"%d" % number, key=b"k", headers=(("n", b"%d" % number),), timestamp=T - number)
        for number in range(300)
    ]
    printed = []
    for name, bootstrap in ((direct, kafka.bootstrap), (sealed, proxy.bootstrap)):
        kafka.create_topic(name)
        librdkafka_produce(bootstrap, name, records, compression_type="lz4")
        group = ("--command-property", f"group.protocol={protocol}", "--group", name)
        printed.append(console_consume(bootstrap, name, len(records), *group))
    assert printed[0] == printed[1]
    assert len(printed[1]) == len(records)
    assert printed[1][7] == f"CreateTime:{T - 7}\tPartition:0\tOffset:7\tn:7\tk\t7"


def test_performance_tools(kafka: Cluster, proxy: Proxy, topic: str):
    """All that the one produces arrives at the other, with every byte."""
    kafka.create_topic(topic, partitions=2)
    count, size = 50_000, 100
    load = ("--num-records", str(count), "--record-size", str(size), "--throughput", "-1")
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic)
    done = java.java_tool(java.PRODUCER_PERFORMANCE, *reach, *load, "--command-property", "linger.ms=20")
    assert f"{count} records sent" in done.stdout
    assert "rror" not in done.stdout + done.stderr
    limits = ("--num-records", str(count), "--hide-header", "--timeout", "60000")
    figures = java.java_tool(java.CONSUMER_PERFORMANCE, *reach, *limits).stdout.splitlines()[-1].split(", ")
    megabytes, messages = float(figures[2]), int(figures[4])
    assert messages == count
    assert megabytes == pytest.approx(count * size / (1 << 20), abs=0.001)
    values = [record.value for record in librdkafka_read(proxy.bootstrap, topic)]
    assert len(values) == count
    assert all(re.fullmatch(rb"[A-Z]{100}", value or b"") for value in values)


@pytest.mark.parametrize("protocol", ["CLASSIC", pytest.param("CONSUMER", marks=pytest.mark.kafka4)])
def test_verifiable_tools(kafka: Cluster, proxy: Proxy, topic: str, protocol: str):
    """The producer's acknowledged values are the consumer's, record by record."""
    kafka.create_topic(topic)
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic)
    count = 500
    flags = ("--max-messages", str(count), "--repeating-keys", "5", "--message-create-time", str(T))
    sent = java.java_tool(java.VERIFIABLE_PRODUCER, *reach, *flags).stdout
    acknowledged = [event for event in map(json.loads, sent.splitlines()) if event["name"] == "producer_send_success"]
    expected = [(event["offset"], event["key"], event["value"]) for event in acknowledged]
    assert len(expected) == count
    group = ("--group-id", uuid.uuid4().hex, "--group-protocol", protocol, "--verbose", "--max-messages", str(count))
    with java.start_java_tool(java.VERIFIABLE_CONSUMER, *reach, *group) as consumer:
        said = [json.loads(line) for line in consumer.lines.read(SECONDS)]
        assert consumer.wait(SECONDS) == 0
    read = [event for event in said if event["name"] == "record_data"]
    assert [(event["offset"], event["key"], event["value"]) for event in read] == sorted(expected)
    committed = [event for event in said if event["name"] == "offsets_committed" and event["success"]]
    assert committed[-1]["offsets"][0]["offset"] == count
    stamps = [record.timestamp for record in librdkafka_read(proxy.bootstrap, topic)]
    assert stamps[0] == T
    assert stamps == sorted(stamps)


def test_java_agrees_on_offsets(kafka: Cluster, proxy: Proxy, topic: str):
    """First, last and next offsets are the broker's."""
    kafka.create_topic(topic, partitions=2)
    librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"v", partition=n % 2) for n in range(7)])
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic)
    assert java.java_tool(java.GET_OFFSETS, *reach).stdout == f"{topic}:0:4\n{topic}:1:3\n"
    assert java.java_tool(java.GET_OFFSETS, *reach, "--time", "earliest").stdout == f"{topic}:0:0\n{topic}:1:0\n"
