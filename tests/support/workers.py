"""A proxy of several processes: its workers, and connections to each of them."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil

from tests.support.proxy import Proxy
from tests.support.raw_client import RawClient
from tests.support.waiting import wait_until


def metrics(proxy: Proxy) -> dict[str, Any]:
    """The line that SIGUSR1 asks for. Workers report once a second."""
    before = len(proxy.events("metrics"))
    proxy.signal(signal.SIGUSR1)
    wait_until(lambda: len(proxy.events("metrics")) > before)
    return proxy.events("metrics")[-1]


def wait_for_metrics(proxy: Proxy, **wanted: int) -> dict[str, Any]:
    """Wait until these are the counts (without kveil_), and return all."""
    found: dict[str, Any] = {}

    def is_so() -> bool:
        found.update(metrics(proxy))
        return all(found.get(f"kveil_{name}") == value for name, value in wanted.items())

    wait_until(is_so)
    return found


def worker_pids(proxy: Proxy) -> dict[int, int]:
    """Process ids by the workers' numbers."""
    return {line["worker"]: line["pid"] for line in proxy.events("worker_ready")}


def is_running(pid: int) -> bool:
    """Whether the process is there, and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def one_client_each(proxy: Proxy, workers: int = 2) -> Iterator[list[RawClient]]:
    """Connections to the first port, each at another worker: one port's are spread evenly."""
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(proxy.bootstrap)) for _ in range(workers)]
        for client in clients:
            client.metadata()  # it is connected, and not merely waiting to be accepted
        yield clients
