"""Incremental fetch sessions (KIP-227): an answer lists what has changed, and nothing else, as without a proxy."""

from collections.abc import Mapping
from typing import Any

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from tests.support import java
from tests.support.clients import Record, librdkafka_produce
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy
from tests.support.raw_client import Fetched, RawClient, batch
from tests.support.waiting import wait_until

SECONDS = 60.0
T = 1_700_000_000_000
FETCH_VERSION = 12
PARTITIONS = 4
FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH = 70, 71


class FetchSession:
    """One session: each step sends what has changed since the last, as clients do."""

    def __init__(self, client: RawClient, topic: str) -> None:
        self._client, self._topic = client, topic
        self._session = {"session_id": 0, "session_epoch": 0}

    def step(self, offsets: Mapping[int, int], **more: Any) -> tuple[int, dict[int, Fetched]]:
        """Ask, and return the error and the partitions that the answer lists, in its order."""
        topics = {self._topic: offsets} if offsets else {}
        self._client.send_fetch(topics, version=FETCH_VERSION, **{**self._session, **more})
        answer = self._client.receive(ApiKey.FETCH, FETCH_VERSION)
        self._session = {"session_id": answer.session_id, "session_epoch": self._session["session_epoch"] + 1}
        return int(answer.error_code), {
            each.partition_index: Fetched(int(each.error_code), each.high_watermark, bytes(each.records or b""))
            for topic in answer.responses
            for each in topic.partitions
        }


def story(bootstrap: str, topic: str) -> list[Any]:
    """What each answer of a session says while partitions change, one after the other or not at all."""
    told: list[Any] = []
    with RawClient(bootstrap) as client, RawClient(bootstrap) as producer:

        def produce(partition: int, *values: bytes) -> None:
            sent = batch(list(values), timestamp_ms=T)
            assert producer.produce({topic: {partition: sent}})[topic, partition][0] == 0

        everything = dict.fromkeys(range(PARTITIONS), 0)
        # A topic made a moment ago is not led everywhere yet.
        wait_until(lambda: not any(each.error for each in client.fetch_all({topic: everything}).values()))
        session = FetchSession(client, topic)
        produce(1, b"first")
        told.append(session.step(everything))
        told.append(session.step({}))  # not read on: the same records again
        told.append(session.step({1: 1}))
        produce(2, b"second", b"third")
        told.append(session.step({}))
        produce(3, *[b"many"] * 40)
        told.append(session.step({2: 2}))
        forgotten = [{"topic": topic, "partitions": [3]}]
        told.append(session.step({}, forgotten_topics_data=forgotten))
        produce(3, b"unheard")
        produce(0, b"fourth")
        told.append(session.step({}))
        told.append(session.step({0: 1, 3: 40}))
        told.append(session.step({}, session_epoch=1))
        told.append(session.step({}, session_id=1))
    return told


def test_each_answer_lists_what_has_changed(kafka: Cluster, proxy: Proxy, topic: str):
    direct, through = [], []
    for told, bootstrap, name in (
        (direct, kafka.bootstrap, f"{topic}-direct"),
        (through, proxy.bootstrap, f"{topic}-sealed"),
    ):
        kafka.create_topic(name, partitions=PARTITIONS)
        told.extend(story(bootstrap, name))
    assert through == direct
    listed = [sorted(partitions) for _, partitions in direct]
    assert listed == [[0, 1, 2, 3], [1], [], [2], [3], [], [0], [3], [], []]
    assert [error for error, _ in direct][-2:] == [INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_ID_NOT_FOUND]


@pytest.mark.parametrize("protocol", ["classic", pytest.param("consumer", marks=pytest.mark.kafka4)])
def test_java_over_many_answers(kafka: Cluster, proxy: Proxy, topic: str, protocol: str):
    """It fetches in a session; records come to one partition at a time, and long after its first answer."""
    kafka.create_topic(topic, partitions=PARTITIONS)
    reach = ("--bootstrap-server", proxy.bootstrap, "--topic", topic, "--from-beginning")
    settings = ("--command-property", f"group.protocol={protocol}", "--command-property", "fetch.max.wait.ms=50")
    shown = ("--formatter-property", "print.partition=true", "--formatter-property", "print.offset=true")
    with java.start_java_tool(java.CONSOLE_CONSUMER, *reach, *settings, *shown) as consumer:
        turns = [0, 0, 3, 1, 1, 1, 2, 0]
        for number, partition in enumerate(turns):
            librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"turn %d" % number, partition=partition)])
            offset = turns[:number].count(partition)
            line = consumer.lines.wait_for(f"turn {number}", SECONDS)
            assert line.split("\t") == [f"Partition:{partition}", f"Offset:{offset}", f"turn {number}"]
        assert len(consumer.lines.so_far()) == len(turns)
