"""A Kafka Connect worker in distributed mode, as a child process, with its REST interface on a free loopback port.

with connect_worker(proxy.bootstrap, folder, topics=InternalTopics.named("mine")) as worker:
    worker.create("source", {"connector.class": FILE_SOURCE, "file": ..., "topic": ...})
    worker.wait_until_running("source")
"""

import http.client
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.java import start_java_tool
from tests.support.jvm import KAFKA_VERSION, LOGGING, class_path
from tests.support.ports import reserved_ports
from tests.support.processes import Child
from tests.support.security import properties_text
from tests.support.waiting import wait_until

_ARTIFACTS = tuple(
    f"org.apache.kafka:{name}:{KAFKA_VERSION}"
    for name in ("kafka-clients", "connect-runtime", "connect-file", "connect-mirror")
)
FILE_SOURCE = "org.apache.kafka.connect.file.FileStreamSourceConnector"
FILE_SINK = "org.apache.kafka.connect.file.FileStreamSinkConnector"
STRINGS = "org.apache.kafka.connect.storage.StringConverter"

_MAIN = "org.apache.kafka.connect.cli.ConnectDistributed"
_START_SECONDS = 60.0
_CALL_SECONDS = 30.0
_CONFLICT = 409  # the worker is rebalancing: ask again


def connect_path() -> str:
    """Connect's class path. Logging is resolved apart: with it the resolver takes too old jars for the rest."""
    return os.pathsep.join([class_path(_ARTIFACTS), class_path(LOGGING)])


@dataclass(frozen=True, slots=True, kw_only=True)
class InternalTopics:
    """Where a worker keeps its connectors, how far they are, and how they do."""

    configs: str = "connect-configs"
    offsets: str = "connect-offsets"
    status: str = "connect-status"

    @classmethod
    def named(cls, stem: str) -> "InternalTopics":
        """Topics of one's own."""
        return cls(configs=f"{stem}-configs", offsets=f"{stem}-offsets", status=f"{stem}-status")


class ConnectWorker:
    """A running worker, spoken to by REST."""

    def __init__(self, child: Child, port: int) -> None:
        self.child = child
        self._port = port

    def _answer(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_CALL_SECONDS)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
            is_json = "json" in (answer.getheader("Content-Type") or "")  # while it starts it speaks HTML
            return answer.status, json.loads(said) if is_json and said else None
        finally:
            connection.close()

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """One request, which must be answered with success."""
        found: list[Any] = []

        def answered() -> bool:
            status, said = self._answer(method, path, body)
            if status == _CONFLICT:
                return False
            assert status < 300, f"{method} {path}: {status} {said}"
            found.append(said)
            return True

        wait_until(answered)
        return found[0]

    def is_up(self) -> bool:
        """Whether it serves requests."""
        assert self.child.exit_code is None, "\n".join(self.child.errors.so_far()[-40:])
        try:
            return self._answer("GET", "/connectors")[0] == 200
        except OSError:
            return False

    def create(self, name: str, config: Mapping[str, object]) -> None:
        """Make a connector."""
        settings = {key: str(value) for key, value in config.items()}
        self.ask("POST", "/connectors", {"name": name, "config": settings})

    def state_of(self, name: str) -> list[str]:
        """The state of a connector and of its tasks; nothing while it isn't known."""
        status, said = self._answer("GET", f"/connectors/{name}/status")
        return [] if status != 200 else [said["connector"]["state"], *(task["state"] for task in said["tasks"])]

    def wait_until_running(self, name: str) -> None:
        """Wait until a connector and its tasks run; one that failed ends the wait."""

        def runs() -> bool:
            states = self.state_of(name)
            assert "FAILED" not in states, self.ask("GET", f"/connectors/{name}/status")
            return len(states) > 1 and set(states) == {"RUNNING"}

        wait_until(runs, _START_SECONDS)


@contextmanager
def connect_worker(
    bootstrap: str,
    folder: Path,
    *,
    group: str,
    topics: InternalTopics,
    settings: Mapping[str, str] | None = None,
) -> Iterator[ConnectWorker]:
    """Run one worker of a group until the end of the block, and end it in order."""
    with reserved_ports(1) as (port,):
        properties = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "listeners": f"http://127.0.0.1:{port}",
            "key.converter": STRINGS,
            "value.converter": STRINGS,
            "config.storage.topic": topics.configs,
            "offset.storage.topic": topics.offsets,
            "status.storage.topic": topics.status,
            "config.storage.replication.factor": "1",
            "offset.storage.replication.factor": "1",
            "status.storage.replication.factor": "1",
            "offset.storage.partitions": "2",
            "status.storage.partitions": "2",
            "offset.flush.interval.ms": "500",
            "exactly.once.source.support": "enabled",
            "consumer.isolation.level": "read_committed",
            "plugin.discovery": "service_load",
            **(settings or {}),
        }
        config = folder / "worker.properties"
        config.write_text(properties_text(properties))
        with start_java_tool(_MAIN, str(config), path=connect_path()) as child:
            worker = ConnectWorker(child, port)
            wait_until(worker.is_up, _START_SECONDS)
            yield worker
            child.stop()
