"""The ways from a client to the broker that are compared."""

import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import psutil

from tests.bench.cluster import BenchCluster
from tests.support.processes import Child
from tests.support.proxy import kveil_proxy

DIRECT, FORWARDER, KVEIL = "direct", "forwarder", "kveil"
WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a client gets to the broker."""

    name: str
    bootstrap: str
    pid: int | None = None
    """The process in between, if there is one."""
    librdkafka: dict[str, str] = field(default_factory=dict)
    java: dict[str, str] = field(default_factory=dict)

    def cpu_seconds(self) -> float:
        """What the process in between has used up to now, user and system."""
        if self.pid is None:
            return 0.0
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system


def other_proxy(text: str) -> Way:
    """NAME=HOST:PORT:PID."""
    name, _, rest = text.partition("=")
    host, port, pid = rest.rsplit(":", 2)
    return Way(name=name, bootstrap=f"{host}:{port}", pid=int(pid))


@contextmanager
def plain_ways(bench: BenchCluster, others: Sequence[Way] = ()) -> Iterator[list[Way]]:
    """Direct, the forwarder, Kveil and the others, over a plaintext upstream."""
    with ExitStack() as stack:
        ports = (str(bench.forwarder_port), str(bench.forwarded_port))
        forwarder = stack.enter_context(Child([sys.executable, "-m", "tests.bench.forwarder", *ports]))
        forwarder.lines.wait_for("listening", WAIT_SECONDS)
        proxy = stack.enter_context(kveil_proxy(bench.direct, config={"log": {"format": "json", "level": "info"}}))
        for other in others:
            _wait_for(other)
        yield [
            Way(name=DIRECT, bootstrap=bench.direct),
            Way(name=FORWARDER, bootstrap=f"127.0.0.1:{bench.forwarder_port}", pid=forwarder.pid),
            Way(name=KVEIL, bootstrap=proxy.bootstrap, pid=proxy.pid),
            *others,
        ]


@contextmanager
def tls_ways(bench: BenchCluster) -> Iterator[list[Way]]:
    """Direct with TLS in the client, and Kveil with TLS to the broker only."""
    config = {"log": {"format": "json", "level": "info"}}
    with kveil_proxy(bench.tls, tls={"ca": str(bench.ca)}, config=config) as proxy:
        yield [
            Way(
                name=DIRECT,
                bootstrap=bench.tls,
                librdkafka={"security.protocol": "SSL", "ssl.ca.location": str(bench.ca)},
                java={
                    "security.protocol": "SSL",
                    "ssl.truststore.type": "PEM",
                    "ssl.truststore.location": str(bench.ca),
                },
            ),
            Way(name=KVEIL, bootstrap=proxy.bootstrap, pid=proxy.pid),
        ]


def _wait_for(way: Way) -> None:
    host, port = way.bootstrap.rsplit(":", 1)
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        time.sleep(0.1)
    raise TimeoutError(f"proxy {way.name} doesn't answer at {way.bootstrap}")
