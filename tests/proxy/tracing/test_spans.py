"""What a trace tells of a request, and what it doesn't."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy import session
from kveil.proxy.addresses import Endpoint
from kveil.proxy.errors import CloseConnection, ErrorCode
from kveil.proxy.tracing import spans
from kveil.proxy.tracing.spans import Tracer
from tests.support.conversation import Conversation
from tests.support.kio_instances import versions_of
from tests.support.records import client_batch, fetched, produced, sealed, tampered
from tests.support.traces import Traces

PRODUCE, FETCH, BEAT = ApiKey.PRODUCE, ApiKey.FETCH, 12
TOPIC_ID = bytes(range(16))
BATCHES = [{"match": "logs", "seal": "none"}, {"match": "*", "mode": "batch"}]


@pytest.fixture
def traces() -> Iterator[Traces]:
    made = Traces()
    yield made
    made.provider.shutdown()


@pytest.fixture
def talk(converse, traces) -> Conversation:
    return begin(converse, traces)


def begin(converse: Callable[..., Conversation], traces: Traces) -> Conversation:
    return converse(tracer=traces.tracer, upstream=Endpoint("broker-1.example.net", 9092), topics=BATCHES)


def test_a_produce_request(talk, traces):
    number = talk.client(PRODUCE, 9, produced({"orders": {3: client_batch(5)}}))
    assert [span for span in traces.ended if span.parent is None] == []  # it has no answer yet
    talk.broker(PRODUCE, 9, number, {"responses": []})
    assert traces.root.name == "send orders"
    assert traces.root.kind is SpanKind.CLIENT
    assert dict(traces.root.attributes) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.client.id": "app",
        "messaging.destination.name": "orders",
        "messaging.destination.partition.id": "3",
        "messaging.batch.message_count": 5,
        "server.address": "broker-1.example.net",
        "server.port": 9092,
    }
    assert traces.root.status.is_ok
    assert traces.phases[-2:] == ["kveil.seal", "kveil.upstream"]
    assert set(traces.phases[:-2]) == {"kveil.settings", "kveil.keys"}


def test_keys_that_are_there_are_not_waited_for(talk, traces):
    for _ in range(2):
        traces.exporter.clear()
        number = talk.client(PRODUCE, 9, produced({"orders": {0: client_batch()}}))
        talk.broker(PRODUCE, 9, number, {"responses": []})
    assert traces.phases == ["kveil.seal", "kveil.upstream"]


def test_acks_0_ends_when_it_is_sent(talk, traces):
    talk.client(PRODUCE, 9, produced({"orders": {0: client_batch()}}, acks=0))
    assert traces.root.name == "send orders"
    assert traces.phases[-1] == "kveil.upstream"


def test_several_topics_and_partitions(talk, traces):
    """One name would be wrong, and a list of them is none of the conventions' attributes."""
    batches = {"orders": {0: client_batch(2), 1: client_batch(3)}, "logs": {0: client_batch(4)}}
    talk.broker(PRODUCE, 9, talk.client(PRODUCE, 9, produced(batches)), {"responses": []})
    assert traces.root.name == "send"
    assert traces.root.attributes["messaging.batch.message_count"] == 9
    assert "messaging.destination.name" not in traces.root.attributes


def test_several_partitions_of_a_topic(talk, traces):
    batches = {"orders": {0: client_batch(2), 1: client_batch(3)}}
    talk.broker(PRODUCE, 9, talk.client(PRODUCE, 9, produced(batches)), {"responses": []})
    assert traces.root.attributes["messaging.destination.name"] == "orders"
    assert "messaging.destination.partition.id" not in traces.root.attributes


@pytest.mark.parametrize("size", [3, 300], ids=["at once", "in steps"])
def test_a_fetch_request(talk, traces, writer, size, monkeypatch):
    monkeypatch.setattr(session, "STEP_BYTES", 2000)
    batch = client_batch(size)
    number = talk.client(FETCH, 11, {"topics": [{"topic": "orders", "partitions": [{"partition": 2}]}]})
    talk.broker(FETCH, 11, number, fetched({"orders": {2: sealed(writer, "orders", 2, batch)}}))
    assert traces.root.name == "poll orders"
    told = dict(traces.root.attributes)
    assert told["messaging.operation.type"] == "receive"
    assert told["messaging.batch.message_count"] == size
    assert told["messaging.destination.partition.id"] == "2"
    assert traces.phases == ["kveil.upstream", "kveil.keys", "kveil.open"]


def test_a_share_group_s_fetch_is_a_poll_too(talk, traces, writer):
    talk.shared.topic_names.learn(TOPIC_ID, "orders")
    version = versions_of(ApiKey.SHARE_FETCH)[-1]
    number = talk.client(ApiKey.SHARE_FETCH, version)
    part = {
        "partition_index": 2,
        "records": sealed(writer, "orders", 2, client_batch(3)),
        "acquired_records": [{"first_offset": 0, "last_offset": 2, "delivery_count": 1}],
        "current_leader": {"leader_id": 1, "leader_epoch": 1},
    }
    answer = {"responses": [{"topic_id": TOPIC_ID, "partitions": [part]}]}
    talk.broker(ApiKey.SHARE_FETCH, version, number, answer)
    assert traces.root.name == "poll orders"
    assert traces.root.attributes["messaging.operation.type"] == "receive"
    assert traces.root.attributes["messaging.batch.message_count"] == 3


def test_a_fetch_that_brings_nothing(talk, traces):
    number = talk.client(FETCH, 11, {"topics": [{"topic": "orders", "partitions": [{"partition": 2}]}]})
    talk.broker(FETCH, 11, number, fetched({"orders": {2: b""}}))
    assert traces.root.name == "poll"
    assert traces.phases == ["kveil.upstream"]


def test_nothing_of_a_record_is_told(talk, traces, writer):
    batch = client_batch(3)
    number = talk.client(PRODUCE, 9, produced({"orders": {0: batch}}))
    talk.broker(PRODUCE, 9, number, {"responses": []})
    number = talk.client(FETCH, 11, {"topics": [{"topic": "orders", "partitions": [{"partition": 0}]}]})
    talk.broker(FETCH, 11, number, fetched({"orders": {0: sealed(writer, "orders", 0, batch)}}))
    told = "".join(span.to_json() for span in traces.ended)
    assert "poll orders" in told
    assert not re.search("value|key-?[0-9]", told)


class TestTrouble:
    def test_a_refused_partition(self, talk, traces, writer):
        number = talk.client(FETCH, 11, {"topics": [{"topic": "orders", "partitions": [{"partition": 0}]}]})
        stored = tampered(sealed(writer, "orders", 0, client_batch()))
        talk.broker(FETCH, 11, number, fetched({"orders": {0: stored}}))
        assert not traces.root.status.is_ok
        assert traces.root.attributes["error.type"] == ErrorCode.CORRUPT_MESSAGE.name
        (event,) = traces.root.events
        assert event.name == "exception"
        assert event.attributes["exception.type"] == "CORRUPT_MESSAGE"
        assert event.attributes["messaging.destination.name"] == "orders"
        assert event.attributes["messaging.destination.partition.id"] == "0"

    def test_a_request_that_the_proxy_answers_itself(self, talk, traces):
        talk.client(PRODUCE, 9, produced({"orders": {0: b"no batch"}}))
        assert talk.to_broker == []
        assert traces.root.attributes["error.type"] in ErrorCode.__members__
        assert traces.phases[-1] == "kveil.seal"

    def test_a_connection_that_ends(self, talk, traces):
        """Whatever each request was at."""
        talk.client(PRODUCE, 9, produced({"orders": {0: client_batch()}}))
        talk.park(PRODUCE, 9, produced({"returns": {0: client_batch()}}))
        talk.session.end_traces("the connection ended before the answer")
        roots = [span for span in traces.ended if span.parent is None]
        assert {span.name for span in roots} == {"send orders", "send"}
        assert {span.attributes["error.type"] for span in roots} == {"connection_closed"}
        assert {span.status.description for span in roots} == {"the connection ended before the answer"}
        traces.exporter.clear()
        talk.session.end_traces("again")
        assert traces.ended == ()

    def test_a_client_that_leaves_is_no_trouble(self, talk, traces):
        """As each consumer does, with a Fetch that waits for records."""
        talk.client(FETCH, 11, {"topics": [{"topic": "orders", "partitions": [{"partition": 2}]}]})
        talk.session.end_traces(None)
        assert traces.root.status.is_ok
        assert traces.phases == ["kveil.upstream"]

    def test_a_request_that_closes_the_connection(self, talk, traces):
        with suppress(CloseConnection):
            talk.client(FETCH, 11, {"replica_id": 3})
        talk.session.end_traces("brokers don't come through here")
        assert traces.root.status.description == "brokers don't come through here"


def test_other_requests_have_none(talk, traces):
    talk.broker(BEAT, 4, talk.client(BEAT, 4))
    assert traces.ended == ()


@pytest.mark.parametrize("options", [{"sampled": 0.0}, {"sampler": ALWAYS_OFF}], ids=["by us", "by the SDK"])
def test_one_that_is_not_chosen_costs_no_spans(converse, options):
    traces = Traces(**options)
    talk = begin(converse, traces)
    number = talk.client(PRODUCE, 9, produced({"orders": {0: client_batch()}}))
    assert talk.session._traces == set()
    talk.broker(PRODUCE, 9, number, {"responses": []})
    assert traces.ended == ()


async def test_the_end_does_not_wait_for_a_collector_for_ever(monkeypatch):
    monkeypatch.setattr(spans, "CLOSE_SECONDS", 0.05)
    gone = threading.Event()

    class Stuck(SpanProcessor):
        def shutdown(self) -> None:
            gone.wait()

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Stuck())
    async with asyncio.timeout(10):
        await Tracer(provider, 1.0).close()
    gone.set()
