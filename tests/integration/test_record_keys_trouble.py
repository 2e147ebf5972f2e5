"""The key topic in trouble: its leader goes away, the cluster wants a login, it isn't compacted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import Record, Sender, librdkafka_produce, librdkafka_read, numbered
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.proxy import Proxy, kveil, kveil_proxy
from tests.support.raw_client import RawClient, batch
from tests.support.security import Login

T = 1_700_000_000_000
KEY_TOPIC = "_kveil.keys"
RULE = {"match": "people*", "mode": "record", "key": "customers", "key_per": "record_key"}
NOT_ENOUGH_REPLICAS = 19


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    done = kveil("keys", "init", "--keys", str(path), "--key", "default", "--key", "customers")
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def proxy3(kafka3: Cluster, keys: Path) -> Iterator[Proxy]:
    with kveil_proxy(",".join(kafka3.bootstrap_servers), keys=keys, topics=[RULE]) as proxy:
        yield proxy
    kafka3.delete_topic(KEY_TOPIC)


def records(*keys: bytes) -> list[Record]:
    return [Record(key=key, value=b"of " + key, timestamp=T) for key in keys]


def leader_of_key_topic(kafka: Cluster) -> int:
    from confluent_kafka.admin import AdminClient

    found = AdminClient({"bootstrap.servers": kafka.internal_bootstrap}).list_topics(KEY_TOPIC, 30)
    return found.topics[KEY_TOPIC].partitions[0].leader


def test_the_key_topics_leader_goes_away(kafka3: Cluster, proxy3: Proxy, topic: str):
    """It has three replicas. What is known opens meanwhile, and new record keys get their keys from the next leader."""
    people = f"people-{topic}"
    kafka3.create_topic(people, replication=3)
    librdkafka_produce(proxy3.bootstrap, people, records(b"alice"))
    settings = kafka3.topic_config(KEY_TOPIC)
    assert (settings["cleanup.policy"], settings["min.insync.replicas"]) == ("compact", "2")
    leader = leader_of_key_topic(kafka3)
    kafka3.kill_node(leader)
    try:
        librdkafka_produce(proxy3.bootstrap, people, records(b"alice", b"bob"))
    finally:
        kafka3.start_node(leader)
    assert librdkafka_read(proxy3.bootstrap, people) == numbered(records(b"alice", b"alice", b"bob"))


def test_a_cluster_that_wants_a_login(kafka_sasl: Cluster, keys: Path, topic: str, tmp_path: Path):
    """Where clients' own logins pass through, the proxy has none for the key topic, and says so."""
    people, password = f"people-{topic}", tmp_path / "password"
    kafka_sasl.create_topic(people)
    user = Login()
    password.write_text(user.password)
    sasl = {"mechanism": "PLAIN", "username": user.username, "password": f"file:{password}"}
    assert kafka_sasl.certificates is not None
    tls = {"ca": str(kafka_sasl.certificates.authority.path)}
    with kveil_proxy(kafka_sasl.bootstrap, keys=keys, topics=[RULE], tls=tls) as proxy:
        assert "upstream.sasl" in proxy.wait_for_event("own_topic_unread")["reason"]
    with kveil_proxy(kafka_sasl.bootstrap, keys=keys, topics=[RULE], tls=tls, to_cluster={"sasl": sasl}) as proxy:
        librdkafka_produce(proxy.bootstrap, people, records(b"alice"))
        assert librdkafka_read(proxy.bootstrap, people) == numbered(records(b"alice"))


def test_a_key_topic_that_is_not_compacted(keys: Path, topic: str):
    """Its entries would be deleted by their age: it isn't used until that is mended."""
    people = f"people-{topic}"
    with kafka_cluster() as kafka, kveil_proxy(kafka.bootstrap, keys=keys, topics=[RULE], start=False) as proxy:
        kafka.create_topic(people)
        kafka.create_topic(KEY_TOPIC)
        proxy.start()
        line = proxy.wait_for_event("own_topic_unread")
        assert "cleanup.policy must be compact" in line["reason"]
        with RawClient(proxy.bootstrap) as client:
            assert client.produce({people: {0: batch([b"x"])}})[people, 0][0] == NOT_ENOUGH_REPLICAS
        kafka.alter_topic_config(KEY_TOPIC, {"cleanup.policy": "compact"})
        sender = Sender(proxy.bootstrap, people)
        sender.send(records(b"alice")[0])
        sender.flush()
        assert not sender.errors
