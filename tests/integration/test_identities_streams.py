"""Stream positions with a real broker and real clients: what is honest raises no alarm, whatever happens to it."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from confluent_kafka import Producer

from kveil.protocol.envelope.stream import GRACE_SECONDS
from kveil.protocol.identity.crypto import KemSuite
from tests.integration.test_identities import proxy_of, values
from tests.support.clients import librdkafka
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.members import Members, members_on
from tests.support.proxy import Proxy
from tests.support.realm import consumes, produces
from tests.support.steady import read_all, steady_consumer, steady_producer

SECONDS = 60.0
PARTITIONS = 3


@pytest.fixture(scope="module")
def kafka() -> Iterator[Cluster]:
    with kafka_cluster() as cluster:
        yield cluster


@pytest.fixture
def members(kafka: Cluster, tmp_path: Path) -> Iterator[Members]:
    with members_on(kafka, tmp_path, suite=KemSuite.X25519) as made:
        yield made


def abort_and_commit(bootstrap: str, topic: str) -> None:
    """Two transactions, one of which counts for nobody."""
    producer = Producer(librdkafka(bootstrap, transactional_id=topic))
    producer.init_transactions(SECONDS)
    for end in (producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        for _ in range(20):
            producer.produce(topic, b"-1", partition=0)
        producer.flush(SECONDS)
        end(SECONDS)
    producer.close()


def alarms(*proxies: Proxy) -> list[dict[str, object]]:
    return [event for proxy in proxies for event in proxy.events("stream_alarm")]


def test_no_alarm_without_an_attack(kafka: Cluster, members: Members, topic: str):
    """Kills, restarts, rotations, transactions and their aborts, producers of all kinds, readers from everywhere."""
    name = f"orders-{topic}"
    kafka.create_topic(name, PARTITIONS)
    reader = members.join("billing", consumes("orders*"))
    writer = members.join("shop", produces("orders*"))
    with ExitStack() as stack:
        billing = stack.enter_context(proxy_of(kafka, members, reader))
        shop = stack.enter_context(proxy_of(kafka, members, writer))
        live = stack.enter_context(steady_consumer(billing.bootstrap, name))
        idempotent = stack.enter_context(steady_producer(shop.bootstrap, name, partitions=PARTITIONS))
        others = [
            stack.enter_context(
                steady_producer(shop.bootstrap, name, partitions=PARTITIONS, enable_idempotence=False, acks=acks)
            )
            for acks in ("all", "1")
        ]
        idempotent.wait_for_more(200)
        for end in (shop.kill, shop.stop, shop.kill):
            end()
            shop.start()
            idempotent.wait_for_more(100)
        abort_and_commit(shop.bootstrap, name)
        shop.signal(signal.SIGHUP)  # another key
        idempotent.wait_for_more(100)
        sent = idempotent.finish()
        for other in others:
            other.stop()
        shop.stop()  # with its last beacon
        live.wait_for(sent)
        time.sleep(GRACE_SECONDS + 1)  # as long as a beacon waits for what it names
        for _ in range(2):
            everything = values(read_all(billing.bootstrap, name, PARTITIONS))
            assert set(range(sent)) <= set(everything)
        assert alarms(billing, shop) == []
        assert billing.events("batch_unopened") == []
