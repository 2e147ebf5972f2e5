"""Kafka Connect, distributed: from a file to a file, with its own three topics sealed, or plain by the preset."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.support.connect import FILE_SINK, FILE_SOURCE, ConnectWorker, InternalTopics, connect_worker
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.waiting import wait_until

SECONDS = 60.0
LINES = [f"veiled line {number}\n" for number in range(400)]
ASKED = ("/connectors/source", "/connectors/sink", "/connectors/source/topics", "/connectors/source/offsets")


@pytest.fixture(scope="module")
def preset_proxy(kafka: Cluster) -> Iterator[Proxy]:
    """A proxy that leaves Connect's topics plain on purpose."""
    with kveil_proxy(kafka.bootstrap, config={"presets": ["connect"]}) as running:
        yield running


class Copy:
    """A file, its copy, and the topic in between."""

    def __init__(self, bootstrap: str, folder: Path, name: str, topics: InternalTopics) -> None:
        self._bootstrap, self._folder, self._name, self._topics = bootstrap, folder, name, topics
        self.topic = f"{name}-lines"
        self.source, self.sink = folder / "source.txt", folder / "sink.txt"

    def worker(self) -> AbstractContextManager[ConnectWorker]:
        """A worker that copies, or will when it is told to."""
        return connect_worker(self._bootstrap, self._folder, group=self._name, topics=self._topics)

    def add(self, lines: list[str]) -> None:
        """More lines for the source."""
        with self.source.open("a") as file:
            file.writelines(lines)

    def wait_until_copied(self) -> None:
        """Wait until the copy is as long, and see that it is the same."""
        wait_until(lambda: self.sink.exists() and self.sink.stat().st_size >= self.source.stat().st_size, SECONDS)
        assert self.sink.read_text() == self.source.read_text()

    def said_by(self, worker: ConnectWorker) -> dict[str, Any]:
        """What the worker says of its connectors, without the names of this run."""
        said: dict[str, Any] = {name: worker.state_of(name) for name in ("source", "sink")}
        said |= {path: worker.ask("GET", path) for path in ASKED}
        return self._without_names(said)

    def _without_names(self, said: Any) -> Any:
        if isinstance(said, dict):
            return {key: self._without_names(value) for key, value in said.items()}
        if isinstance(said, list):
            return [self._without_names(value) for value in said]
        if isinstance(said, str):
            return said.replace(str(self._folder), "FOLDER").replace(self._name, "NAME")
        return said


def copied_twice(kafka: Cluster, copy: Copy) -> dict[str, Any]:
    """Copy a file, by one worker after another; gives what the last one says.

    The second knows its connectors, and how far they were, from their topics alone.
    """
    kafka.create_topic(copy.topic)
    copy.add(LINES[:200])
    with copy.worker() as worker:
        worker.create("source", {"connector.class": FILE_SOURCE, "file": copy.source, "topic": copy.topic})
        worker.create("sink", {"connector.class": FILE_SINK, "file": copy.sink, "topics": copy.topic})
        copy.wait_until_copied()
    copy.add(LINES[200:])
    with copy.worker() as worker:
        worker.wait_until_running("source")
        worker.wait_until_running("sink")
        copy.wait_until_copied()
        assert copy.sink.read_text() == "".join(LINES)
        end = {"position": copy.source.stat().st_size}
        wait_until(lambda: worker.ask("GET", "/connectors/source/offsets")["offsets"][0]["offset"] == end, SECONDS)
        return copy.said_by(worker)


@pytest.fixture(scope="module")
def plain_words(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a worker says that copied without a proxy."""
    folder = tmp_path_factory.mktemp("plain")
    return copied_twice(kafka, Copy(kafka.bootstrap, folder, "connect-plain", InternalTopics.named("connect-plain")))


def test_its_own_topics_plain_by_the_preset(
    kafka: Cluster, preset_proxy: Proxy, plain_words: dict[str, Any], tmp_path: Path, topic: str
):
    copy = Copy(preset_proxy.bootstrap, tmp_path, topic, InternalTopics())
    assert copied_twice(kafka, copy) == plain_words
    assert b"veiled line" not in kafka.stored_bytes(copy.topic)
    assert b"FileStreamSource" in kafka.stored_bytes("connect-configs")
    assert b"source.txt" in kafka.stored_bytes("connect-offsets")
    assert b"RUNNING" in kafka.stored_bytes("connect-status")
    for each in ("connect-configs", "connect-offsets", "connect-status"):  # names that are not this test's alone
        kafka.delete_topic(each)


CASES = ["auto", pytest.param("record", marks=pytest.mark.full)]


@pytest.mark.parametrize("proxy", CASES, indirect=True)
def test_its_own_topics_sealed(kafka: Cluster, proxy: Proxy, plain_words: dict[str, Any], tmp_path: Path, topic: str):
    topics = InternalTopics.named(topic)
    copy = Copy(proxy.bootstrap, tmp_path, topic, topics)
    assert copied_twice(kafka, copy) == plain_words
    stored = {each: kafka.stored_bytes(each) for each in (copy.topic, topics.configs, topics.offsets, topics.status)}
    assert all(stored.values()), "a topic is empty"
    plain = (b"veiled line", b"FileStreamSource", b"source.txt", b"RUNNING", b"connector-")
    assert not [(each, words) for each in stored for words in plain if words in stored[each]]
