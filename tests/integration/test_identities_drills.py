"""The drills, as people do them: with the commands, while records flow through proxies and a real broker."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from confluent_kafka import KafkaError

from kveil.protocol.identity import CONTROL_TOPIC
from kveil.protocol.identity.announcement import Announcement
from kveil.protocol.identity.record import decode_record
from tests.integration.test_identities import refusal, values
from tests.integration.test_identities_authority import Place
from tests.support.clients import librdkafka_read
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.proxy import Proxy, kveil, kveil_proxy
from tests.support.steady import read_all, steady_consumer, steady_producer
from tests.support.waiting import wait_until

WRONG_SETUP = 2


class Site(Place):
    """A realm on a cluster without logins, and its nodes' proxies."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder = folder
        self.cluster = cluster
        self.config = folder / "kveil.yaml"
        upstream = {"bootstrap": cluster.bootstrap.split(",")}
        self.config.write_text(yaml.safe_dump({"upstream": upstream, "log": {"format": "json"}}))

    def join(self, name: str, role: str, *more: str) -> None:
        """Enrol a host with a ticket. The authority runs."""
        ticket = self.ticket(name, "--role", role, "--topics", "orders*", "--name", name, *more)
        done = self.enroll(name, str(ticket))
        assert done.returncode == 0, done.stderr

    def proxy(self, stack: ExitStack, name: str) -> Proxy:
        """A member's, until the stack ends."""
        config = {"keys": {"provider": "identities"}, "identity": {"path": str(self.folder / name)}}
        none = self.folder / "none.json"
        return stack.enter_context(kveil_proxy(self.cluster.bootstrap, keys=none, config=config))

    def recipients(self) -> list[set[str]]:
        """Who gets the keys that were announced, by fingerprint, as the topic has it."""
        records = librdkafka_read(self.cluster.bootstrap, CONTROL_TOPIC)
        bodies = [getattr(decode_record(one.value, "demo"), "body", None) for one in records if one.value]
        return [{one.hex() for one in body.recipients} for body in bodies if isinstance(body, Announcement)]

    def regrants(self, name: str) -> int:
        done = kveil("keeper", "regrant", "--identity", str(self.folder / name), "-c", str(self.config), "--json")
        assert done.returncode == 0, done.stderr
        return int(json.loads(done.stdout[done.stdout.index("{\n") :])["regrants"])

    def id_of(self, name: str) -> str:
        return self.fingerprint(name).replace(" ", "")


@pytest.fixture(scope="module")
def kafka() -> Iterator[Cluster]:
    with kafka_cluster() as cluster:
        yield cluster


@pytest.fixture
def site(tmp_path: Path, kafka: Cluster) -> Iterator[Site]:
    made = Site(tmp_path, kafka)
    done = made.authority("init", "--realm", "demo", online=False)
    assert done.returncode == 0, done.stderr
    yield made
    kafka.delete_topic(CONTROL_TOPIC)


def test_hosts_join_and_are_lost_while_records_flow(site: Site, kafka: Cluster, topic: str):
    """A producer and a consumer join; the first consumer's directory is lost, and it is replaced; then the keeper's."""
    name = f"orders-{topic}"
    kafka.create_topic(name)
    with site.running(), ExitStack() as stack:
        site.join("vault", "keeper")
        site.join("shop1", "producer")
        site.join("billing", "consumer")
        shop1, billing = site.proxy(stack, "shop1"), site.proxy(stack, "billing")
        first = stack.enter_context(steady_producer(shop1.bootstrap, name, pause_seconds=0.01))
        first.wait_for_more(20)
        site.join("shop2", "producer")
        site.join("audit", "consumer", "--history", "all")
        second = stack.enter_context(steady_producer(site.proxy(stack, "shop2").bootstrap, name, pause_seconds=0.01))
        audit = site.proxy(stack, "audit")
        first.wait_for_more(20)
        second.wait_for_more(20)
        everybody = {site.id_of(one) for one in ("vault", "billing", "audit")}
        assert site.recipients()[-2:] == [everybody] * 2

        lost = site.id_of("billing")
        billing.stop()
        (site.folder / "billing" / "checkpoint.json").unlink()
        refused = kveil("run", "-c", str(billing.config_path))
        assert refused.returncode == WRONG_SETUP
        assert "enrol" in refused.stderr
        assert "Traceback" not in refused.stderr
        known = len(site.recipients())
        assert site.authority("revoke", "billing").returncode == 0
        wait_until(lambda: len(site.recipients()) >= known + 2)  # a new key of each producer, for those who are left
        site.join("billing2", "consumer")
        first.wait_for_more(20)
        second.wait_for_more(20)
        after = site.recipients()[known:]
        assert after
        assert not any(lost in one for one in after), "nothing is wrapped for it since"
        assert site.id_of("billing2") in after[-1]

        backup = shutil.copytree(site.folder / "vault", site.folder / "backup")
        shutil.rmtree(site.folder / "vault")
        shutil.copytree(backup, site.folder / "vault")
        assert site.regrants("vault") >= 1, "for the one that joined with all history"
        sent = [first.finish(), second.finish()]
        expected = sorted(value for count in sent for value in range(count))
        assert values(read_all(audit.bootstrap, name)) == expected
        billing2 = site.proxy(stack, "billing2")
        assert refusal(billing2.bootstrap, name) == KafkaError.TOPIC_AUTHORIZATION_FAILED, "it joined later"
        assert not audit.events("stream_alarm")


def test_the_authority_is_lost_while_records_flow(site: Site, kafka: Cluster, topic: str):
    """Its backup knows neither who joined since nor who was revoked; nodes go on, and tickets of before are void."""
    name = f"orders-{topic}"
    kafka.create_topic(name)
    with ExitStack() as stack:
        with site.running():
            site.join("shop", "producer")
            site.join("audit", "consumer")
            unused = site.ticket("unused", "--role", "consumer", "--topics", "orders*", "--name", "unused")
            backup = shutil.copytree(site.folder / "authority", site.folder / "backup")
            site.join("billing", "consumer")
            shop, billing, audit = (site.proxy(stack, one) for one in ("shop", "billing", "audit"))
            producer = stack.enter_context(steady_producer(shop.bootstrap, name, pause_seconds=0.01))
            consumer = stack.enter_context(steady_consumer(billing.bootstrap, name))
            producer.wait_for_more(20)
            assert site.authority("revoke", "audit").returncode == 0
            gone = site.id_of("audit")
        shutil.rmtree(site.folder / "authority")
        shutil.copytree(backup, site.folder / "authority")
        done = site.authority("checkpoint")
        assert done.returncode == 0, done.stderr
        assert sorted(site.listed()) == ["billing", "shop"]
        with site.running():
            late = site.enroll("unused", str(unused))
            assert late.returncode != 0
            assert "doesn't know this ticket" in late.stderr
            site.join("late", "consumer")
            producer.wait_for_more(20)
            consumer.wait_for(producer.finish())
        assert gone not in site.recipients()[-1]
        assert site.id_of("late") in site.recipients()[-1]
        assert refusal(audit.bootstrap, name) == KafkaError.TOPIC_AUTHORIZATION_FAILED
        for proxy in (shop, billing):
            assert not proxy.events("stream_alarm")
            assert not proxy.events("identity_alarm")
