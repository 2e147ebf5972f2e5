"""`workers: 2` before a real broker: clients are spread, and all see one Kveil."""

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from tests.support.clients import Record, librdkafka_produce, librdkafka_read
from tests.support.kafka import Cluster
from tests.support.listener import secured_proxy
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import RawClient, batch
from tests.support.security import login
from tests.support.waiting import wait_until
from tests.support.workers import metrics, one_client_each, wait_for_metrics, worker_pids

WORKERS = {"workers": 2}
CLIENTS = 4
COUNT = 500
RULES = [{"match": "plain-*", "seal": "none"}, {"match": "*", "mode": "batch"}]
FETCH_BY_ID = 13
UNKNOWN_TOPIC_ID = 100
INVALID_RECORD = 87
TOPIC, SET = 2, 0


@pytest.fixture
def proxy(kafka: Cluster) -> Iterator[Proxy]:
    with kveil_proxy(kafka.bootstrap, topics=RULES, config=WORKERS) as running:
        yield running
        assert not running.events("connection_failed"), running.events("connection_failed")


def at_once(work, count: int = CLIENTS) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def numbered(client: int) -> list[Record]:
    return [Record(value=b"%d-%d" % (client, number)) for number in range(COUNT)]


def values(records: Sequence[Record]) -> list[bytes | None]:
    return sorted(record.value for record in records)


def test_several_clients(kafka: Cluster, proxy: Proxy, topic: str):
    """Everything arrives, sealed at the broker; both workers had their part; SIGUSR1 shows the sum."""
    kafka.create_topic(topic)
    at_once(lambda client: librdkafka_produce(proxy.bootstrap, topic, numbered(client)))
    sent = sorted(record.value for client in range(CLIENTS) for record in numbered(client))
    assert all(values(found) == sent for found in at_once(lambda _: librdkafka_read(proxy.bootstrap, topic)))
    assert not {record.value for record in librdkafka_read(kafka.bootstrap, topic)} & set(sent)
    told = wait_for_metrics(
        proxy,
        connections_open=0,
        sealed_records_total=CLIENTS * COUNT,
        opened_records_total=CLIENTS * CLIENTS * COUNT,
    )
    assert told['kveil_requests_total{api="Produce"}'] >= CLIENTS
    created = [line["worker"] for line in proxy.events("audit") if "key.created" in line["cloudevent"]["type"]]
    assert sorted(created) == [1, 2]  # each seals with a key of its own


def test_connections_to_a_port_are_spread(kafka: Cluster, proxy: Proxy):
    with one_client_each(proxy, workers=6):
        told = metrics(proxy)
        assert [worker["connections"] for worker in told["workers"]] == [3, 3]
    wait_until(lambda: [worker["connections"] for worker in metrics(proxy)["workers"]] == [0, 0])


def test_it_listens_once(proxy: Proxy):
    assert len(proxy.events("listening")) == 1
    assert sorted(worker_pids(proxy)) == [1, 2]


def fetch_by_id(client: RawClient, topic_id: bytes) -> tuple[int, bytes]:
    """Error and records of partition 0."""
    partition = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1 << 20, "current_leader_epoch": -1}
    more = {"last_fetched_epoch": -1, "log_start_offset": -1}
    request = {
        "replica_id": -1,
        "max_wait": 500,
        "min_bytes": 1,
        "max_bytes": 1 << 20,
        "isolation_level": 0,
        "session_id": 0,
        "session_epoch": -1,
        "topics": [{"topic_id": topic_id, "partitions": [{**partition, **more}]}],
        "forgotten_topics_data": [],
        "rack_id": "",
    }
    (found,) = client.ask(ApiKey.FETCH, FETCH_BY_ID, request).responses
    (part,) = found.partitions
    return int(part.error_code), bytes(part.records or b"")


def test_a_plain_topics_id_that_the_other_worker_gave(kafka: Cluster, proxy: Proxy, topic: str):
    plain = f"plain-{topic}"
    kafka.create_topic(plain)
    with one_client_each(proxy) as (first, second), RawClient(proxy.bootstrap, client_id="another") as stranger:
        first.produce({plain: {0: batch([b"in sight"])}})
        (known,) = first.metadata(plain).topics
        error, records = fetch_by_id(second, known.topic_id.bytes)
        assert (error, b"in sight" in records) == (0, True)
        assert fetch_by_id(stranger, known.topic_id.bytes) == (UNKNOWN_TOPIC_ID, b"")


def test_a_broker_that_one_worker_has_met(kafka: Cluster, proxy: Proxy, topic: str):
    """Clients at its port may produce at once, whichever worker they get; also one that was started later."""
    kafka.create_topic(topic)
    with RawClient(proxy.bootstrap) as first:
        first.metadata(topic)
    os.kill(worker_pids(proxy)[2], signal.SIGKILL)
    wait_until(lambda: len(proxy.events("worker_ready")) == 3)
    node = f"127.0.0.1:{proxy.port + 1}"
    with RawClient(node) as one, RawClient(node) as another:
        for client in (one, another):
            assert client.produce({topic: {0: batch([b"v"])}})[topic, 0][0] == 0
        assert [worker["connections"] for worker in metrics(proxy)["workers"]] == [1, 1]


def test_settings_that_change_by_way_of_one_worker(kafka: Cluster, topic: str):
    """A topic becomes compacted: the other worker seals its records one by one from then on."""
    kafka.create_topic(topic)
    with kveil_proxy(kafka.bootstrap, config=WORKERS) as proxy, one_client_each(proxy) as (first, second):
        for client in (first, second):
            assert client.produce({topic: {0: batch([b"v"] * 3)}})[topic, 0][0] == 0
        change = {"name": "cleanup.policy", "config_operation": SET, "value": "compact"}
        resource = {"resource_type": TOPIC, "resource_name": topic, "configs": [change]}
        first.ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, {"resources": [resource], "validate_only": False})
        with RawClient(kafka.bootstrap) as direct:
            wait_until(lambda: direct.produce({topic: {0: batch([b"v"], key=None)}})[topic, 0][0] == INVALID_RECORD)
        assert second.produce({topic: {0: batch([b"v"] * 3)}})[topic, 0][0] == 0
        assert not proxy.events("produce_refused")


def test_tls_and_a_login(kafka: Cluster, tmp_path: Path, topic: str):
    kafka.create_topic(topic)
    with secured_proxy(kafka.bootstrap, tmp_path, tls=True, sasl=True, config=WORKERS) as listener:
        alice = listener.librdkafka(login("alice"))
        at_once(lambda client: librdkafka_produce(alice, topic, numbered(client)))
        assert len(librdkafka_read(alice, topic)) == CLIENTS * COUNT
        keys = {line["worker"] for line in listener.proxy.events("audit") if "key." in line["cloudevent"]["type"]}
        assert keys == {1, 2}


def test_max_connections_are_of_all_workers(kafka: Cluster):
    limits = {"limits": {"max_connections": 3}}
    with kveil_proxy(kafka.bootstrap, config={**WORKERS, **limits}) as proxy, one_client_each(proxy, workers=3) as some:
        with RawClient(proxy.bootstrap) as one_more:
            assert one_more.is_closed_by_peer()
        assert proxy.wait_for_event("too_many_connections")["max_connections"] == 3
        some[0].socket.close()
        wait_until(lambda: sum(worker["connections"] for worker in metrics(proxy)["workers"]) == 2)
        with RawClient(proxy.bootstrap) as one_more:
            one_more.metadata()


def test_reload_reaches_all(proxy: Proxy):
    proxy.signal(signal.SIGHUP)
    wait_until(lambda: sorted(line["worker"] for line in proxy.events("reloading")) == [1, 2])
    assert proxy.stop() == 0
