"""SIGTERM: answers that are under way arrive, then everything ends, in order and with exit code 0."""

import signal
import socket
from collections.abc import Iterator

import pytest

from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import PRODUCE_VERSION, ConnectionClosedError, RawClient, batch
from tests.support.steady import check_exact, read_all, steady_consumer, steady_producer
from tests.support.tampering import Relay, tampering_relay

SECONDS = 30.0
PRODUCE = 0


@pytest.fixture
def relay(kafka: Cluster) -> Iterator[Relay]:
    with tampering_relay(kafka.bootstrap) as running:
        yield running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_answers_under_way_arrive(kafka: Cluster, relay: Relay, topic: str, number: signal.Signals):
    """The broker has the records and its answer is held up: the proxy waits for it, and takes nobody new."""
    kafka.create_topic(topic)
    with kveil_proxy(relay.address) as proxy, RawClient(proxy.bootstrap) as client, RawClient(proxy.bootstrap) as idle:
        client.produce({topic: {0: batch([b"before"])}})
        idle.metadata()
        relay.freeze()
        client.send_produce({topic: {0: batch([b"under way"])}})
        client.send_produce({topic: {0: batch([b"behind it"])}})
        wait_until_stored(kafka, topic, 3)
        proxy.signal(number)
        proxy.wait_for_event("draining")
        assert idle.is_closed_by_peer()
        for port in (proxy.port, proxy.port + 1):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), SECONDS)
        assert proxy.child.exit_code is None
        relay.freeze(on=False)
        for offset in (1, 2):
            answer = client.receive(PRODUCE, PRODUCE_VERSION).responses[0].partition_responses[0]
            assert (int(answer.error_code), answer.base_offset) == (0, offset)
        assert client.is_closed_by_peer()
        assert proxy.child.wait(SECONDS) == 0
        assert not proxy.events("drain_timed_out")


def wait_until_stored(kafka: Cluster, topic: str, offset: int) -> None:
    """The broker's own word, past the proxy and the held answers."""
    with RawClient(kafka.bootstrap) as direct:
        while direct.fetch(topic, offset=offset - 1).high_watermark < offset:  # it waits at the broker for new records
            pass


def test_a_silent_broker_holds_nothing_up_for_ever(kafka: Cluster, relay: Relay, topic: str):
    kafka.create_topic(topic)
    limits = {"limits": {"drain_seconds": 0.3}}
    with kveil_proxy(relay.address, config=limits) as proxy, RawClient(proxy.bootstrap) as client:
        client.produce({topic: {0: batch([b"before"])}})
        relay.freeze()
        client.send_produce({topic: {0: batch([b"never answered"])}})
        wait_until_stored(kafka, topic, 2)
        assert proxy.stop() == 0
        assert proxy.events("drain_timed_out")[0]["connections"] == 1
        with pytest.raises(ConnectionClosedError):
            client.receive_frame()
        relay.freeze(on=False)


def test_nothing_acknowledged_is_lost(kafka: Cluster, proxy_of_its_own: Proxy, topic: str):
    """A producer that never tries again shows best what happened to each of its records."""
    proxy = proxy_of_its_own
    kafka.create_topic(topic)
    with steady_producer(
        proxy.bootstrap, topic, enable_idempotence=False, retries=0, message_timeout_ms=2000
    ) as producer:
        producer.wait_for_more(500)
        assert proxy.stop() == 0
        producer.stop()
        acknowledged = set(producer.acknowledged)
    proxy.start()
    stored = read_all(proxy.bootstrap, topic)[0]
    assert acknowledged <= set(stored)
    assert len(stored) == len(set(stored))


def test_clients_go_on_after_an_upgrade(kafka: Cluster, proxy_of_its_own: Proxy, topic: str):
    proxy = proxy_of_its_own
    kafka.create_topic(topic)
    with (
        steady_producer(proxy.bootstrap, topic) as producer,
        steady_consumer(proxy.bootstrap, topic) as consumer,
    ):
        for _ in range(3):
            producer.wait_for_more(200)
            assert proxy.stop() == 0
            proxy.start()
        sent = producer.finish()
        consumer.wait_for(sent)
        check_exact(consumer.values, sent)
    check_exact(read_all(proxy.bootstrap, topic), sent)


@pytest.fixture
def proxy_of_its_own(kafka: Cluster) -> Iterator[Proxy]:
    with kveil_proxy(kafka.bootstrap) as running:
        yield running
