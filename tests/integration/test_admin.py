"""The admin port beside a real broker: what it counts, and what it says when a broker is gone."""

import re
import signal
from collections.abc import Iterator

import pytest

from tests.support.admin_port import AdminPort, admin_port
from tests.support.clients import Record, librdkafka_produce, librdkafka_read
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import RawClient, batch
from tests.support.waiting import wait_until
from tests.support.workers import one_client_each

COUNT = 300
WHOLE = [{"match": "plain-*", "seal": "none"}, {"match": "*", "mode": "batch"}]


@pytest.fixture
def admin() -> Iterator[AdminPort]:
    with admin_port() as port:
        yield port


@pytest.fixture
def proxy(kafka: Cluster, admin: AdminPort) -> Iterator[Proxy]:
    with kveil_proxy(kafka.bootstrap, topics=WHOLE, config=admin.config) as running:
        yield running
        assert not running.events("connection_failed"), running.events("connection_failed")
        assert not running.events("admin_request_failed"), running.events("admin_request_failed")


def test_counts_after_known_traffic(kafka: Cluster, proxy: Proxy, admin: AdminPort, topic: str):
    kafka.create_topic(topic)
    librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"%d" % number) for number in range(COUNT)])
    assert len(librdkafka_read(proxy.bootstrap, topic)) == COUNT
    found = admin.metrics()
    assert found["kveil_sealed_records_total",] == found["kveil_opened_records_total",] == COUNT
    assert found["kveil_topic_sealed_records_total", topic] == COUNT
    assert found["kveil_sealed_bytes_total",] == found["kveil_opened_bytes_total",]
    assert found["kveil_requests_total", "Produce"] == found["kveil_added_seconds_count", "seal"]
    assert 0 < found["kveil_added_seconds_count", "open"] <= found["kveil_requests_total", "Fetch"]
    assert found["kveil_cache_entries", "epoch_keys"] == 1
    assert found["kveil_key_calls_total", "wrap", "ok", "keyfile"] == 1
    assert found["kveil_key_call_seconds_count", "wrap", "keyfile"] == 1
    assert not [name for name in found if name[0] == "kveil_refusals_total"]


def test_a_refusal(kafka: Cluster, proxy: Proxy, admin: AdminPort, topic: str):
    kafka.create_topic(topic)
    with RawClient(kafka.bootstrap) as direct:
        direct.produce({topic: {0: batch([b"plain, by way around"])}})
    with RawClient(proxy.bootstrap) as client:
        client.fetch(topic)
        assert admin.metrics()["kveil_refusals_total", "CORRUPT_MESSAGE"] >= 1
        assert admin.metrics()["kveil_connections_open",] == 1


def test_probes_are_no_traffic(proxy: Proxy, admin: AdminPort):
    """Else every scrape would have clients in it that nobody runs."""
    assert admin.get("/readyz").status == 200
    assert admin.get("/readyz").json == {
        "ready": True,
        "checks": {"upstream": {"ok": True}, "keys: keyfile": {"ok": True}},
    }
    assert admin.get("/livez").json == {"alive": True}
    assert not {name[0] for name in admin.metrics()} & {"kveil_requests_total", "kveil_connections_total"}


def test_nothing_secret_is_shown(proxy: Proxy, admin: AdminPort):
    told = "".join(admin.get(path).text for path in ("/", "/config", "/metrics", "/readyz"))
    secrets = re.findall(r'"([A-Za-z0-9+/=_-]{40,})"', proxy.keys.read_text())
    assert secrets
    assert not [secret for secret in secrets if secret in told]
    shown = admin.get("/config").json
    assert shown["admin"]["address"] == admin.config["admin"]["address"]
    assert shown["keys"]["path"] == str(proxy.keys)
    assert shown["topics"][0]["match"] == "plain-*"


def test_keys_that_are_gone(proxy: Proxy, admin: AdminPort):
    proxy.keys.rename(proxy.keys.with_suffix(".away"))
    wait_until(lambda: admin.get("/readyz").status == 503)
    checks = admin.get("/readyz").json["checks"]
    assert checks["upstream"] == {"ok": True}
    assert str(proxy.keys) in checks["keys: keyfile"]["reason"]
    assert admin.get("/livez").status == 200
    proxy.keys.with_suffix(".away").rename(proxy.keys)
    wait_until(lambda: admin.get("/readyz").status == 200)


@pytest.mark.broker
def test_a_broker_that_stops_and_comes_back():
    """One process says so, and several do."""
    with (
        admin_port() as one,
        admin_port() as other,
        kafka_cluster() as cluster,
        kveil_proxy(cluster.bootstrap, config=one.config),
        kveil_proxy(cluster.bootstrap, config={**other.config, "workers": 2}),
    ):
        for admin in (one, other):
            assert admin.get("/readyz").status == 200
        cluster.stop_node(0)
        for admin in (one, other):
            wait_until(lambda admin=admin: admin.get("/readyz").status == 503)
            found = admin.get("/readyz").json
            assert not found["ready"]
            assert "can't be reached" in found["checks"]["upstream"]["reason"]
            assert found["checks"]["keys: keyfile"] == {"ok": True}
        cluster.start_node(0)
        for admin in (one, other):
            wait_until(lambda admin=admin: admin.get("/readyz").status == 200)


def test_workers_are_counted_together(kafka: Cluster, admin: AdminPort, topic: str):
    kafka.create_topic(topic)
    with (
        kveil_proxy(kafka.bootstrap, topics=WHOLE, config={**admin.config, "workers": 2}) as proxy,
        one_client_each(proxy) as clients,
    ):
        for client in clients:
            assert client.produce({topic: {0: batch([b"v"] * 5)}})[topic, 0][0] == 0
        wait_until(lambda: admin.metrics().get(("kveil_topic_sealed_records_total", topic)) == 10)
        found = admin.metrics()
        assert found["kveil_connections_open",] == 2
        assert found["kveil_cache_entries", "epoch_keys"] == 2  # each seals with a key of its own
        assert 0 < found["kveil_epoch_key_age_seconds",] < 60
        assert proxy.stop() == 0


def test_the_end_is_not_held_up(proxy: Proxy, admin: AdminPort):
    with RawClient(proxy.bootstrap) as client:
        client.metadata()
        assert admin.get("/").status == 200
        proxy.signal(signal.SIGTERM)
        assert proxy.child.wait(10.0) == 0
