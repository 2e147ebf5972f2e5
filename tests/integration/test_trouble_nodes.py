"""A broker whose node id is beyond the range of local ports."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from tests.support.kafka import Cluster, kafka_cluster
from tests.support.ports import reserved_ports
from tests.support.proxy import BROKER_PORTS, kveil_proxy
from tests.support.raw_client import RawClient, batch

NODE = 7


@pytest.fixture(scope="module")
def kafka_7() -> Iterator[Cluster]:
    """One node with the id 7."""
    assert NODE >= BROKER_PORTS
    with kafka_cluster(first_id=NODE) as cluster:
        yield cluster


@pytest.mark.broker
def test_it_is_named_with_the_setting_that_helps(kafka_7: Cluster, topic: str):
    kafka_7.create_topic(topic)
    with kveil_proxy(kafka_7.bootstrap) as proxy:
        with RawClient(proxy.bootstrap) as client, pytest.raises(ConnectionError):
            client.metadata(topic)
        reason = proxy.wait_for_event("connection_closed")["reason"]
        assert f"node id {NODE}" in reason
        assert f"nodes: {{{NODE}: PORT}}" in reason
        assert "broker_ports.count" in reason
        for _ in range(5):
            with RawClient(proxy.bootstrap) as client, pytest.raises(ConnectionError):
                client.metadata(topic)
        assert len(proxy.events("connection_closed")) == 1  # repeats are held back


@pytest.mark.broker
@pytest.mark.parametrize("where", ["top", "listener", "count"])
def test_with_a_port_of_its_own(kafka_7: Cluster, topic: str, where: str):
    """As the line said; for all listeners or for one."""
    kafka_7.create_topic(topic)
    count = NODE + 1 if where == "count" else BROKER_PORTS
    with reserved_ports(1) as (free,), kveil_proxy(kafka_7.bootstrap, start=False, broker_ports=count) as proxy:
        port = free
        if where == "top":
            proxy.config["nodes"] = {NODE: port}
        elif where == "listener":
            proxy.config["listeners"][0]["nodes"] = {NODE: port}
        else:
            port = proxy.port + 1 + NODE
        proxy.start()
        with RawClient(proxy.bootstrap) as client:
            assert [(each.node_id, each.port) for each in client.metadata(topic).brokers] == [(NODE, port)]
        with RawClient(f"127.0.0.1:{port}") as client:
            assert client.produce({topic: {0: batch([b"one"])}}) == {(topic, 0): (0, 0)}
        errors: list[object] = []
        with Producer({"bootstrap.servers": proxy.bootstrap}) as producer:
            producer.produce(topic, b"two", on_delivery=lambda error, _: errors.append(error))
            assert producer.flush(30) == 0
        assert errors == [None]
        with RawClient(proxy.bootstrap) as client:
            assert [value for _, value in client.fetch(topic).values] == [b"one", b"two"]
