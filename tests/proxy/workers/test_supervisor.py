"""The parent's loop, with workers that only say what they know (tests.support.scripted_workers)."""

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from kveil.proxy.net.doors import Arrival
from kveil.proxy.workers.processes import SIGNALS, WorkerProcess
from kveil.proxy.workers.supervisor import Supervisor
from tests.support.doors import listener_settings
from tests.support.ports import reserved_port_range
from tests.support.processes import Child
from tests.support.service_manager import ServiceManagerSocket
from tests.support.waiting import wait_until

SECONDS = 30.0


class Scripted:
    """The running program."""

    def __init__(self, child: Child, port: int) -> None:
        self.child = child
        self.port = port

    def connect(self, wish: bytes = b"", *, step: int = 0) -> dict[str, int]:
        """What a worker says to a client that has this wish; the wish is granted when this returns."""
        with socket.create_connection(("127.0.0.1", self.port + step), SECONDS) as client:
            with client.makefile("rb") as lines:
                said = json.loads(lines.readline())
            if wish:
                client.sendall(wish)
                client.recv(1)  # until it closes
            return dict(said)

    def events(self, name: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.child.errors.so_far()]
        return [line for line in lines if line["event"] == name]

    def signal(self, number: signal.Signals) -> None:
        self.child._popen.send_signal(number)


@contextmanager
def two_workers(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Scripted]:
    config = folder / "kveil.yaml"
    with reserved_port_range(3) as port:
        config.write_text(
            f"""
upstream: {{bootstrap: [a:1]}}
listeners: [{{address: 127.0.0.1:{port}}}]
broker_ports: {{count: 2}}
workers: 2
"""
        )
        command = [sys.executable, "-m", "tests.support.scripted_workers", str(config)]
        with Child(command, environment=environment) as child:
            child.errors.wait_for('"listening"', SECONDS)
            yield Scripted(child, port)


@pytest.fixture
def scripted(tmp_path: Path):
    """Two workers."""
    with two_workers(tmp_path) as running:
        yield running


def test_what_one_said_before_a_client_came_the_other_knows(scripted):
    """A client that was told of a broker connects to it at once, and gets the other worker."""
    for known in range(300):
        assert scripted.connect(b"b")["port"] == known


def test_the_one_with_less_to_do(scripted):
    with socket.create_connection(("127.0.0.1", scripted.port), SECONDS) as waiting, waiting.makefile("rb") as lines:
        first = json.loads(lines.readline())["worker"]
        assert scripted.connect(step=1)["worker"] != first  # busy with another one, it could not answer


def test_one_that_exits_is_replaced(scripted):
    said = scripted.connect(b"x")
    wait_until(lambda: len(scripted.events("worker_ready")) == 3)
    (died,) = scripted.events("worker_died")
    assert (died["worker"], died["pid"], died["exit_code"]) == (said["worker"], said["pid"], 3)
    assert scripted.events("worker_ready")[-1]["worker"] == said["worker"]


def test_a_new_one_knows_what_the_others_knew(scripted):
    for _ in range(3):
        scripted.connect(b"b")
    gone = scripted.connect(b"x")["worker"]
    wait_until(lambda: len(scripted.events("worker_ready")) == 3)
    heard = [scripted.connect() for _ in range(20)]
    assert {said["port"] for said in heard} == {3}
    assert gone in {said["worker"] for said in heard}


def test_clients_wait_while_no_worker_is_there(scripted):
    for count in (1, 2):
        scripted.connect(b"x")
        wait_until(lambda count=count: len(scripted.events("worker_died")) == count)
    assert scripted.connect()["worker"] in (1, 2)


def test_sums_stay_when_workers_die(scripted):
    def total():
        before = len(scripted.events("metrics"))
        scripted.signal(signal.SIGUSR1)
        wait_until(lambda: len(scripted.events("metrics")) > before)
        return scripted.events("metrics")[-1]["kveil_connections_total"]

    wait_until(lambda: total() == 2)
    scripted.connect(b"x")
    wait_until(lambda: total() == 3)


def test_workers_are_heard_between_a_clients_coming_and_its_handing_over(monkeypatch):
    """Also if one spoke after the parent last looked, and before the client connected."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    calls = []

    class Crew:
        workers = (WorkerProcess(number=1, pid=0, channel=None),)  # type: ignore[arg-type]

        def attend(self, worker):
            calls.append("attend")

        def send(self, worker, kind, **values):
            calls.append(kind)

    with reserved_port_range(3) as port, socket.socket() as client:
        supervisor = Supervisor(listener_settings(port), lambda number, sock: 0, lambda: listener_settings(port))
        try:
            monkeypatch.setattr(supervisor, "_crew", Crew())
            supervisor._balance.add(1)
            assert supervisor._hand_over(Arrival(0, None, client, "127.0.0.1"))
        finally:
            supervisor._close_everything()
            for number, handler in before.items():
                signal.signal(number, handler)
    assert calls == ["attend", "take"]


@pytest.mark.full
def test_one_that_hangs_is_replaced_where_a_service_manager_watches(tmp_path):
    """Scripted workers report once, and then look as if they hung; the parent itself is well, and says so."""
    with ServiceManagerSocket(watchdog_seconds=2) as manager:
        with two_workers(tmp_path, {**os.environ, **manager.environment}) as running:
            wait_until(lambda: len(running.events("worker_killed")) == 2)
            wait_until(lambda: len(running.events("worker_ready")) == 4)
            assert {line["why"] for line in running.events("worker_killed")} == {"it is silent"}
            assert running.connect()["worker"] in (1, 2)
        assert manager.rest().count("WATCHDOG=1") >= 5


def test_the_end(scripted):
    scripted.signal(signal.SIGTERM)
    scripted.signal(signal.SIGTERM)  # impatience changes nothing
    assert scripted.child.wait(SECONDS) == 0
    assert [line["event"] for line in map(json.loads, scripted.child.errors.so_far())][-1] == "stopped"
    assert not scripted.events("worker_died")
