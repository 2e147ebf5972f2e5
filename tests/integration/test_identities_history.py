"""What `history` means: who opens which records, on a real topic, by when each joined."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kveil.protocol.identity.credential import History
from kveil.protocol.identity.crypto import KemSuite
from tests.support.clients import Record, librdkafka_produce, librdkafka_read
from tests.support.java import CONSOLE_CONSUMER, java_tool
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.members import Members, control_writer
from tests.support.proxy import Proxy, kveil, kveil_proxy
from tests.support.raw_client import RawClient
from tests.support.realm import Node, consumes, keeps, produces
from tests.support.waiting import wait_until

CONTROL = "_kveil.control"
TOPIC = "orders"
OK, NOT_NOW, NEVER = 0, 56, 29
"""KAFKA_STORAGE_ERROR, which clients try again, and TOPIC_AUTHORIZATION_FAILED."""


@pytest.fixture(scope="module")
def kafka() -> Iterator[Cluster]:
    """A cluster for these tests alone: its control topic is theirs."""
    with kafka_cluster() as cluster:
        cluster.create_topic(CONTROL, config={"cleanup.policy": "compact"})
        cluster.create_topic(TOPIC)
        yield cluster


@pytest.fixture
def members(kafka: Cluster, tmp_path: Path) -> Iterator[Members]:
    with control_writer(kafka.bootstrap) as write:
        yield Members(tmp_path, write, now=int(time.time()), suite=KemSuite.MLKEM768_X25519)


def test_who_opens_what(kafka: Cluster, members: Members):
    """Records A to E, one after another, and between them somebody joins, or the producer begins a new key."""

    def proxy_of(node: Node) -> Proxy:
        config = {"keys": {"provider": "identities"}, "identity": {"path": str(members.path(node))}}
        return stack.enter_context(kveil_proxy(kafka.bootstrap, keys=members.folder / "none.json", config=config))

    def joins(name: str, history: History) -> Node:
        """Somebody does, and the producer has heard of it."""
        made = members.join(name, consumes(TOPIC, history=history))
        wait_until(lambda: shop.events("checkpoint")[-1]["number"] == members.realm.kept.number)
        return made

    def send(value: bytes) -> None:
        librdkafka_produce(shop.bootstrap, TOPIC, [Record(value=value)])

    def opens(proxy: Proxy) -> list[int]:
        """What each of the records is answered with, from A on."""
        with RawClient(proxy.bootstrap) as client:
            return [client.fetch(TOPIC, offset=offset).error for offset in range(5)]

    with ExitStack() as stack:
        keeper = members.join("vault", keeps(TOPIC))
        writer = members.join("shop", produces(TOPIC))
        shop = proxy_of(writer)
        send(b"A")
        from_join = joins("from-join", History.FROM_JOIN)
        send(b"B")
        none = joins("none", History.NONE)
        send(b"C")
        assert kveil("keys", "rotate", "-c", str(shop.folder / "kveil.yaml")).returncode == 0
        time.sleep(1.1)  # as late as it may be noticed
        send(b"D")
        whole = joins("whole", History.ALL)
        send(b"E")
        readers = {node.body.name: proxy_of(node) for node in (none, from_join, whole)}
        assert {name: opens(proxy) for name, proxy in readers.items()} == {
            "none": [NEVER, NEVER, NEVER, OK, OK],
            "from-join": [NEVER, OK, OK, OK, OK],
            "whole": [NOT_NOW, NOT_NOW, NOT_NOW, NOT_NOW, OK],
        }
        reach = ("--identity", str(members.path(keeper)), "--upstream", kafka.bootstrap)
        done = kveil("keeper", "regrant", *reach, "--json")
        assert done.returncode == 0, done.stderr
        made = [one["cloudevent"]["data"]["kid"] for one in shop.events("audit") if "kid" in one["cloudevent"]["data"]]
        assert len(set(made)) == 4, "for A; for B and C, since who joins without history begins none; for D; for E"
        assert json.loads(done.stdout[done.stdout.index("{\n") :])["regrants"] == 3, "all but the last"
        assert [one.value for one in librdkafka_read(readers["whole"].bootstrap, TOPIC)] == [
            b"A",
            b"B",
            b"C",
            b"D",
            b"E",
        ]
        assert opens(readers["none"]) == [NEVER, NEVER, NEVER, OK, OK], "what was handed on is for others"

        def console(proxy: Proxy, offset: int, count: int) -> list[str]:
            """From where a person would have it begin, as the docs say."""
            reach = ("--bootstrap-server", proxy.bootstrap, "--topic", TOPIC, "--partition", "0")
            said = java_tool(CONSOLE_CONSUMER, *reach, "--offset", str(offset), "--max-messages", str(count))
            return said.stdout.split()

        assert console(readers["none"], 3, 2) == ["D", "E"]
        assert console(readers["from-join"], 1, 4) == ["B", "C", "D", "E"]
