"""Traces of a proxy at work, at a collector; and the clients' own traces, which go by untouched."""

import os
import time

import pytest

from tests.support.clients import Record, librdkafka_produce, librdkafka_read
from tests.support.collector import CollectedSpan, Collector
from tests.support.kafka import Cluster
from tests.support.proxy import kveil_proxy

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
STATE = b"congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
CONTEXT = (("traceparent", PARENT), ("tracestate", STATE), ("baggage", b"userId=alice"))
RECORDS = [Record(key=b"k%d" % number, value=b"only-in-here %d" % number, headers=CONTEXT) for number in range(20)]


def lies_within(span: CollectedSpan, outer: CollectedSpan) -> bool:
    return outer.begun <= span.begun <= span.ended <= outer.ended and span.trace_id == outer.trace_id


@pytest.mark.parametrize("mode", ["batch", "record"])
@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_collector_gets(kafka: Cluster, topic: str, mode: str, workers: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    kafka.create_topic(topic)
    began = time.time_ns()
    with Collector() as collector:
        config = {
            "tracing": {"endpoint": collector.url, "sampled": 1.0, "service_name": "orders-sidecar"},
            "workers": workers,
        }
        with kveil_proxy(kafka.bootstrap, topics=[{"match": "*", "mode": mode}], config=config) as proxy:
            librdkafka_produce(proxy.bootstrap, topic, RECORDS, client_id="billing")
            read = librdkafka_read(proxy.bootstrap, topic)
            assert proxy.stop() == 0  # what was gathered is sent then
            assert not proxy.events("tracing_trouble")
        sent = collector.wait_for(f"send {topic}")
        fetched = collector.wait_for(f"poll {topic}")
        for root, last in ((sent[0], "kveil.upstream"), (fetched[0], "kveil.open")):
            below = collector.children(root)
            assert below[-1].name == last
            assert all(lies_within(span, root) for span in below)
            assert began <= root.begun <= root.ended <= time.time_ns()
        spans, bodies = collector.spans, b"".join(collector.bodies)
    assert [record.headers for record in read] == [CONTEXT] * len(RECORDS)
    assert {span.service for span in spans} == {"orders-sidecar"}
    assert sum(span.attributes["messaging.batch.message_count"] for span in sent) == len(RECORDS)
    assert sum(span.attributes["messaging.batch.message_count"] for span in fetched) >= len(RECORDS)
    assert sent[0].attributes["messaging.client.id"] == "billing"
    host, _, port = kafka.bootstrap.split(",")[0].rpartition(":")
    assert (sent[0].attributes["server.address"], sent[0].attributes["server.port"]) == (host, int(port))
    assert not [span for span in spans if span.failed]
    # The proxy's traces are its own, and nothing of a record is in them.
    assert bytes.fromhex(PARENT.split(b"-")[1].decode()) not in {span.trace_id for span in spans}
    assert not [word for word in (b"only-in-here", b"traceparent", PARENT, b"alice") if word in bodies]
    # The clients' context is sealed with their records.
    assert not [word for word in (PARENT, STATE, b"alice") if word in kafka.stored_bytes(topic)]


def test_a_collector_that_is_not_there_holds_nobody_up(kafka: Cluster, topic: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(os.environ, "OTEL_BSP_SCHEDULE_DELAY", "50")
    kafka.create_topic(topic)
    with Collector() as collector:
        gone = collector.url
    config = {"tracing": {"endpoint": gone, "sampled": 1.0}}
    with kveil_proxy(kafka.bootstrap, topics=[{"match": "*"}], config=config) as proxy:
        librdkafka_produce(proxy.bootstrap, topic, RECORDS)
        assert len(librdkafka_read(proxy.bootstrap, topic)) == len(RECORDS)
        assert proxy.wait_for_event("tracing_trouble")["level"] == "warning"
        began = time.monotonic()
        assert proxy.stop() == 0
        assert time.monotonic() - began < 10
        assert all(line.startswith("{") for line in proxy.child.errors.so_far())
