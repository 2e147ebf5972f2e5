"""Workers that die, are ended, or can't start: nothing lost, one exit code, and no process left."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil, kveil_proxy
from tests.support.raw_client import PRODUCE_VERSION, RawClient, batch
from tests.support.steady import check_exact, read_all, steady_consumer, steady_producer
from tests.support.tampering import tampering_relay
from tests.support.waiting import wait_until
from tests.support.workers import is_running, metrics, one_client_each, worker_pids

NOWHERE = "127.0.0.1:1"
SECONDS = 30.0
WORKERS = {"workers": 2}
PRODUCE = 0


@pytest.fixture
def alone() -> Iterator[Proxy]:
    """Without a broker."""
    with kveil_proxy(NOWHERE, config=WORKERS) as running:
        yield running


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_a_worker_that_is_killed(kafka: Cluster, topic: str):
    """While idempotent producers and a consumer run, one after the other."""
    kafka.create_topic(topic)
    with (
        kveil_proxy(kafka.bootstrap, config=WORKERS) as proxy,
        steady_producer(proxy.bootstrap, topic) as producer,
        steady_consumer(proxy.bootstrap, topic) as consumer,
    ):
        for number in (1, 2):
            producer.wait_for_more(300)
            before = metrics(proxy)["kveil_connections_total"]
            pid = worker_pids(proxy)[number]
            kill(pid)
            wait_until(lambda number=number, pid=pid: worker_pids(proxy)[number] != pid)
            assert metrics(proxy)["kveil_connections_total"] >= before  # what it had counted is kept
        producer.wait_for_more(300)
        sent = producer.finish()
        consumer.wait_for(sent)
        check_exact(consumer.values, sent)
        assert [(line["worker"], line["signal"]) for line in proxy.events("worker_died")] == [(1, 9), (2, 9)]
        check_exact(read_all(proxy.bootstrap, topic), sent)


def test_the_others_clients_notice_nothing(kafka: Cluster):
    with kveil_proxy(kafka.bootstrap, config=WORKERS) as proxy, one_client_each(proxy) as clients:
        kill(worker_pids(proxy)[1])
        proxy.wait_for_event("worker_died")
        closed = [client for client in clients if not stays(client)]
        assert len(closed) == 1
        wait_until(lambda: len(proxy.events("worker_ready")) == 3)
        with one_client_each(proxy, workers=1) as (again,):
            again.metadata()
        assert [worker["worker"] for worker in metrics(proxy)["workers"]] == [2, 1]


def stays(client: RawClient) -> bool:
    try:
        client.metadata()
    except ConnectionError:
        return False
    return True


def test_one_that_dies_again_and_again_is_started_ever_later(alone: Proxy):
    """Its keys are gone: it says why each time, and the other one serves on."""
    alone.keys.unlink()
    kill(worker_pids(alone)[2])
    wait_until(lambda: len(alone.events("worker_died")) >= 4)
    died = alone.events("worker_died")
    assert [line["restart_in_seconds"] for line in died[:4]] == [0.1, 0.2, 0.4, 0.8]
    assert [line.get("exit_code") for line in died[1:4]] == [2, 2, 2]
    assert any(str(alone.keys) in line for line in alone.child.errors.so_far() if line.startswith("kveil: "))
    socket.create_connection(("127.0.0.1", alone.port), SECONDS).close()
    assert alone.stop() == 0


def test_draining_as_one(kafka: Cluster, topic: str):
    """Answers under way at both workers arrive, then all end; nobody new is let in meanwhile."""
    kafka.create_topic(topic)
    with (
        tampering_relay(kafka.bootstrap) as relay,
        kveil_proxy(relay.address, config=WORKERS) as proxy,
        one_client_each(proxy) as clients,
    ):
        for client in clients:
            client.produce({topic: {0: batch([b"before"])}})
        relay.freeze()
        for client in clients:
            client.send_produce({topic: {0: batch([b"under way"])}})
        with RawClient(kafka.bootstrap) as direct:
            while direct.fetch(topic, offset=3).high_watermark < 4:
                pass
        proxy.signal(signal.SIGTERM)
        wait_until(lambda: len(proxy.events("draining")) == 2)
        for port in (proxy.port, proxy.port + 1):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), SECONDS)
        assert proxy.child.exit_code is None
        relay.freeze(on=False)
        for client in clients:
            answer = client.receive(PRODUCE, PRODUCE_VERSION).responses[0].partition_responses[0]
            assert int(answer.error_code) == 0
        assert proxy.child.wait(SECONDS) == 0
        assert len(proxy.events("stopped")) == 1
        assert not proxy.events("worker_died")
        assert not any(is_running(pid) for pid in worker_pids(proxy).values())


def test_a_worker_that_does_not_end_is_killed():
    limits = {"limits": {"drain_seconds": 0.1}}
    with kveil_proxy(NOWHERE, config={**WORKERS, **limits}) as proxy:
        stuck = worker_pids(proxy)[2]
        os.kill(stuck, signal.SIGSTOP)
        try:
            assert proxy.stop() == 0
        finally:
            with suppress(ProcessLookupError):  # stopped as it is, it would outlive a failure
                kill(stuck)
        assert [line["pid"] for line in proxy.events("worker_killed")] == [stuck]
        assert not is_running(stuck)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group(alone: Proxy, number: signal.Signals):
    """Ctrl-C in a terminal; a service manager that tells every process."""
    for pid in (*worker_pids(alone).values(), alone.pid):
        os.kill(pid, number)
    assert alone.child.wait(SECONDS) == 0
    assert len(alone.events("stopped")) == 1
    assert not alone.events("worker_died")


def test_a_parent_that_is_killed_leaves_no_worker(alone: Proxy):
    pids = list(worker_pids(alone).values())
    alone.kill()
    wait_until(lambda: not any(map(is_running, pids)))


def test_workers_hold_no_port(alone: Proxy):
    """Else a worker that hangs would keep the next Kveil from starting."""
    for pid in worker_pids(alone).values():
        assert not [each for each in psutil.Process(pid).net_connections() if each.status == psutil.CONN_LISTEN]


def refusal(proxy: Proxy) -> list[str]:
    done = kveil("run", "-c", str(proxy.folder / "kveil.yaml"), "--workers", "2")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()


def test_a_port_that_is_taken(alone: Proxy):
    (line,) = refusal(alone)
    assert f"port {alone.port} " in line


@pytest.mark.parametrize("content", [None, b"{}"])
def test_a_key_file_that_cannot_be_used(alone: Proxy, content: bytes | None):
    """The first worker says it, and it alone."""
    alone.stop()
    alone.keys.unlink()
    if content is not None:
        alone.keys.write_bytes(content)
        alone.keys.chmod(0o600)
    lines = refusal(alone)
    assert len([line for line in lines if str(alone.keys) in line]) == 1
    assert all(line.startswith("kveil: ") for line in lines), lines


def test_one_process_shows_its_metrics_too(kafka: Cluster, topic: str):
    kafka.create_topic(topic)
    with kveil_proxy(kafka.bootstrap) as proxy, RawClient(proxy.bootstrap) as client:
        client.produce({topic: {0: batch([b"one", b"two"])}})
        told = metrics(proxy)
        assert told["kveil_sealed_records_total"] == 2
        assert (told["kveil_connections_open"], told["kveil_connections_total"]) == (1, 1)
