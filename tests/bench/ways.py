"""The ways from a client to the broker that are compared."""

import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.bench import usage
from tests.bench.cases import RECORD_MODE_TOPICS
from tests.bench.cluster import BenchCluster
from tests.support.processes import Child
from tests.support.proxy import kveil_proxy

DIRECT, FORWARDER, KVEIL = "direct", "forwarder", "kveil"
WAIT_SECONDS = 60.0
LOG = {"format": "json", "level": "info"}
TOPICS = ({"match": RECORD_MODE_TOPICS, "mode": "record"},)
"""One process serves both modes, as in life."""


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
        """What the process in between and its children have used up to now, user and system."""
        return 0.0 if self.pid is None else usage.cpu_seconds(self.pid)


def other_proxy(text: str) -> Way:
    """NAME=HOST:PORT:PID."""
    name, _, rest = text.partition("=")
    host, port, pid = rest.rsplit(":", 2)
    return Way(name=name, bootstrap=f"{host}:{port}", pid=int(pid))


@contextmanager
def forwarder_process(port: int, upstream_port: int) -> Iterator[Child]:
    """The bare forwarder, once it listens."""
    with Child([sys.executable, "-m", "tests.bench.forwarder", str(port), str(upstream_port)]) as forwarder:
        forwarder.lines.wait_for("listening", WAIT_SECONDS)
        yield forwarder


@contextmanager
def plain_ways(
    bench: BenchCluster, others: Sequence[Way] = (), config: Mapping[str, Any] | None = None
) -> Iterator[list[Way]]:
    """Direct, the forwarder, Kveil and the others, over a plaintext upstream. `config` is more of Kveil's."""
    with ExitStack() as stack:
        forwarder = stack.enter_context(forwarder_process(bench.forwarder_port, bench.forwarded_port))
        proxy = stack.enter_context(kveil_proxy(bench.direct, topics=TOPICS, config={"log": LOG, **(config or {})}))
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
    with kveil_proxy(bench.tls, topics=TOPICS, tls={"ca": str(bench.ca)}, config={"log": LOG}) as proxy:
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
