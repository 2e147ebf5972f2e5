"""Refused partitions of a Produce: the others are stored and acknowledged as if nothing had been."""

from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, Producer

from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import RawClient, batch
from tests.support.waiting import wait_until

NONE, CORRUPT_MESSAGE, UNKNOWN_TOPIC, MESSAGE_TOO_LARGE, NOT_ENOUGH_REPLICAS = 0, 2, 3, 10, 19
SECONDS = 30.0


@pytest.fixture(scope="module")
def proxy(kafka: Cluster) -> Iterator[Proxy]:
    with kveil_proxy(kafka.bootstrap) as running:
        yield running


@pytest.fixture
def client(proxy: Proxy) -> Iterator[RawClient]:
    with RawClient(proxy.bootstrap) as connected:
        yield connected


@pytest.fixture
def topics(kafka: Cluster, topic: str) -> tuple[str, str, str]:
    """Two ordinary topics, and one that has no room for any batch."""
    first, second, refused = f"{topic}-1", f"{topic}-2", f"{topic}-refused"
    kafka.create_topic(first, partitions=3)
    kafka.create_topic(second)
    kafka.create_topic(refused, partitions=2, config={"max.message.bytes": 50})
    return first, second, refused


def spoilt(values: list[bytes]) -> bytes:
    """A batch whose checksum doesn't fit."""
    good = batch(values)
    return good[:-1] + bytes([good[-1] ^ 1])


def test_refused_partitions_among_many(kafka: Cluster, client: RawClient, topics: tuple[str, str, str]):
    """A whole topic and one partition of another are refused; the answer has all, in the order of the request."""
    first, second, refused = topics
    sent = {
        first: {2: batch([b"a"]), 0: spoilt([b"b"]), 1: batch([b"c", b"d"])},
        refused: {0: batch([b"e"]), 1: batch([b"f"])},
        second: {0: batch([b"g"])},
        f"{first}-unknown": {0: batch([b"h"])},
    }
    for base in (0, 1):
        answer = client.produce(sent)
        assert list(answer) == [(name, index) for name, partitions in sent.items() for index in partitions]
        assert {place: code for place, (code, _) in answer.items()} == {
            (first, 2): NONE,
            (first, 0): CORRUPT_MESSAGE,
            (first, 1): NONE,
            (refused, 0): MESSAGE_TOO_LARGE,
            (refused, 1): MESSAGE_TOO_LARGE,
            (second, 0): NONE,
            (f"{first}-unknown", 0): UNKNOWN_TOPIC,
        }
        assert (answer[first, 2][1], answer[first, 1][1], answer[second, 0][1]) == (base, 2 * base, base)
    assert client.fetch(first, 1).values == [(0, b"c"), (1, b"d"), (2, b"c"), (3, b"d")]
    assert client.fetch(first, 2).values == [(0, b"a"), (1, b"a")]
    assert client.fetch(second).values == [(0, b"g"), (1, b"g")]
    with RawClient(kafka.bootstrap) as direct:
        empty = direct.fetch_all({first: {0: 0}, refused: {0: 0, 1: 0}})
    assert [each.high_watermark for each in empty.values()] == [0, 0, 0]


def test_nothing_left_to_send(client: RawClient, topics: tuple[str, str, str]):
    """The proxy answers by itself, between the broker's answers and in their order."""
    first, _, refused = topics
    client.send_produce({first: {0: batch([b"before"])}})
    client.send_produce({refused: {0: batch([b"refused"])}, first: {0: spoilt([b"refused"])}})
    client.send_produce({first: {0: batch([b"after"])}})
    answers = [client.receive(0, 9) for _ in range(3)]
    codes = [[int(p.error_code) for t in each.responses for p in t.partition_responses] for each in answers]
    assert codes == [[NONE], [MESSAGE_TOO_LARGE, CORRUPT_MESSAGE], [NONE]]
    assert "max.message.bytes" in answers[1].responses[0].partition_responses[0].error_message
    assert client.fetch(first).values == [(0, b"before"), (1, b"after")]


def test_acks_0_with_a_refusal(kafka: Cluster, proxy: Proxy, client: RawClient, topics: tuple[str, str, str]):
    """There is no answer that could say so: the good ones are stored, then the connection ends."""
    first, second, refused = topics
    client.metadata(first)
    client.send_produce({first: {0: batch([b"before"])}}, acks=0)
    good = batch([b"good"])
    client.send_produce({first: {1: good}, refused: {0: batch([b"bad"])}, second: {0: good}}, acks=0)
    assert client.is_closed_by_peer()
    with RawClient(proxy.bootstrap) as other:
        places = {first: {0: 0, 1: 0}, second: {0: 0}}
        wait_until(lambda: all(each.high_watermark == 1 for each in other.fetch_all(places).values()))
        assert other.fetch(first, 0).values == [(0, b"before")]
        assert other.fetch(first, 1).values == [(0, b"good")]
        assert other.fetch(second).values == [(0, b"good")]
    wait_until(lambda: any("acks=0 has no answer" in line["reason"] for line in proxy.events("connection_closed")))


def test_acks_0_with_nothing_but_refusals(client: RawClient, topics: tuple[str, str, str]):
    client.metadata(topics[0])
    client.send_produce({topics[2]: {0: batch([b"bad"])}}, acks=0)
    assert client.is_closed_by_peer()


def test_acks_0_and_gone(kafka: Cluster, proxy: Proxy, topic: str):
    """Sent and closed at once, while the proxy must still ask for the topic's settings and make a key."""
    kafka.create_topic(topic)
    with RawClient(proxy.bootstrap) as client:
        client.send_produce({topic: {0: batch([b"fire"])}}, acks=0)
        client.send_produce({topic: {0: batch([b"forget"])}}, acks=0)
    with RawClient(proxy.bootstrap) as other:
        wait_until(lambda: other.fetch(topic).high_watermark == 2)
        assert other.fetch(topic).values == [(0, b"fire"), (1, b"forget")]


def test_librdkafka_hears_of_its_refusals(proxy: Proxy, topics: tuple[str, str, str]):
    """Batches for all topics in one request or several: each record's own report is right, and nobody turns fatal."""
    refused = topics[2]
    reports: list[tuple[str, KafkaError | None]] = []
    with Producer({"bootstrap.servers": proxy.bootstrap, "enable.idempotence": True, "linger.ms": 20}) as producer:
        for number in range(300):
            producer.produce(
                topics[number % 3], b"%d" % number, on_delivery=lambda e, m: reports.append((m.topic(), e))
            )
        assert producer.flush(SECONDS) == 0
    assert len(reports) == 300
    assert all((error is None) is (name != refused) for name, error in reports)
    codes = {error.code() for _, error in reports if error}
    assert codes <= {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER}
    assert KafkaError.MSG_SIZE_TOO_LARGE in codes
    wait_until(lambda: any(line["topic"] == refused for line in proxy.events("produce_refused")))
    lines = [line for line in proxy.events("produce_refused") if line["topic"] == refused]
    assert {line["error"] for line in lines} >= {"MESSAGE_TOO_LARGE"}
    assert 0 < len(lines) <= 4  # two partitions, repeats held back


def test_topic_that_becomes_compacted(kafka: Cluster, proxy: Proxy, topic: str):
    """The settings that were read stay for a minute, and the broker knows better: a retry, then the other mode."""
    kafka.create_topic(topic)
    with RawClient(proxy.bootstrap) as client:
        two = batch([b"one", b"two"])
        assert client.produce({topic: {0: two}})[topic, 0][0] == NONE
        kafka.alter_topic_config(topic, {"cleanup.policy": "compact"})
        codes = [NONE]
        while codes[-1] == NONE:  # a moment passes until the broker itself goes by the new setting
            codes.append(client.produce({topic: {0: two}})[topic, 0][0])
            assert len(codes) < 1000
        codes.append(client.produce({topic: {0: two}})[topic, 0][0])
        assert codes[-2:] == [NOT_ENOUGH_REPLICAS, NONE]
        stored = [value for _, value in client.fetch(topic).values]
        assert stored == [b"one", b"two"] * codes.count(NONE)
