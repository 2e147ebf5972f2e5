"""What a service manager is told, over a real datagram socket: by the module, and by the running program."""

import signal
import socket
import time

import pytest

from kveil.proxy.systemd import ServiceManager
from tests.support.proxy import kveil_proxy
from tests.support.service_manager import ServiceManagerSocket

NOWHERE = "127.0.0.1:1"
PID = 4321


@pytest.fixture
def heard():
    with ServiceManagerSocket() as manager:
        yield manager


@pytest.mark.parametrize(
    ("tell", "message"), [("ready", "READY=1"), ("stopping", "STOPPING=1"), ("ping", "WATCHDOG=1")]
)
def test_a_state(heard, tell, message):
    getattr(ServiceManager(heard.environment), tell)()
    assert heard.rest() == [message]


def test_reloading_has_a_time_and_an_end(heard):
    before = time.monotonic_ns() // 1000
    with ServiceManager(heard.environment).reloading():
        (begun,) = heard.rest()
    first, stamp = begun.splitlines()
    assert first == "RELOADING=1"
    assert before <= int(stamp.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert heard.rest() == ["READY=1"]


def test_a_reload_that_fails_has_an_end_too(heard):
    with pytest.raises(OSError, match="no such file"), ServiceManager(heard.environment).reloading():
        raise OSError("no such file")
    assert heard.rest()[1:] == ["READY=1"]


def test_an_abstract_socket():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("")  # Linux chooses a free abstract name
        name = sock.getsockname()
        ServiceManager({"NOTIFY_SOCKET": "@" + name[1:].decode()}).ready()
        assert sock.recv(100) == b"READY=1"


@pytest.mark.parametrize("name", [None, "", "relative", "/nowhere/notify"])
def test_nobody_listens(name):
    manager = ServiceManager({} if name is None else {"NOTIFY_SOCKET": name})
    manager.ready()
    manager.ping()
    with manager.reloading():
        pass
    manager.stopping()


def test_a_manager_that_does_not_read_holds_up_no_ping(heard):
    manager = ServiceManager(heard.environment)
    begun = time.monotonic()
    for _ in range(1000):  # more than the socket's queue takes
        manager.ping()
        assert time.monotonic() - begun < 5
    assert 0 < len(heard.rest()) < 1000


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(PID)}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_how_often_to_ping(variables, seconds):
    assert ServiceManager({"NOTIFY_SOCKET": "/run/notify", **variables}, PID).ping_seconds == seconds
    assert ServiceManager(variables, PID).ping_seconds is None


@pytest.mark.parametrize("workers", [1, 2])
def test_the_life_of_a_service(monkeypatch, workers):
    """Ready when clients can connect, alive, reloading and ready again, stopping: from the process that was started."""
    with ServiceManagerSocket(watchdog_seconds=0.2) as manager:
        for name, value in manager.environment.items():
            monkeypatch.setenv(name, value)
        with kveil_proxy(NOWHERE, config={"workers": workers}, start=False) as proxy:
            assert manager.rest() == []  # another command is no service
            proxy.start()
            manager.wait_for("READY=1")
            socket.create_connection(("127.0.0.1", proxy.port), 10).close()
            manager.wait_for("WATCHDOG=1")
            manager.wait_for("WATCHDOG=1")
            proxy.signal(signal.SIGHUP)
            assert "MONOTONIC_USEC=" in manager.wait_for("RELOADING=1")
            manager.wait_for("READY=1")
            assert proxy.wait_for_event("reloading")
            assert proxy.stop() == 0
            assert manager.wait_for("STOPPING=1")
            assert set(manager.rest()) <= {"WATCHDOG=1"}


def test_a_program_that_cannot_start_is_never_ready(monkeypatch):
    with ServiceManagerSocket() as manager, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for name, value in manager.environment.items():
            monkeypatch.setenv(name, value)
        with kveil_proxy(NOWHERE, start=False) as proxy:
            proxy.config["listeners"] = [{"address": f"127.0.0.1:{taken.getsockname()[1]}"}]
            with pytest.raises(RuntimeError, match="can't be had"):
                proxy.start()
            assert proxy.child.exit_code == 2
        assert manager.rest() == []
