"""One broker with a listener for each way to it.

The harness starts it with its usual listeners. Then it gets those of the benchmark and is started again: one for
clients that come directly or by a proxy, one that advertises the forwarder's port, and one behind TLS.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.broker_config import broker_properties
from tests.support.kafka import Cluster, kafka_cluster
from tests.support.ports import reserved_ports
from tests.support.security import Certificates, Security, listener_properties

HEAP_MB = 1024
PARTITIONS = 3
# The harness starts brokers fast; here they have to be fast.
JAVA_OPTIONS = ("-XX:TieredStopAtLevel=4",)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchCluster:
    """A running broker and its addresses."""

    cluster: Cluster
    direct: str
    tls: str
    forwarded_port: int
    """Where the forwarder connects to."""
    forwarder_port: int
    """Where the forwarder listens, as the broker tells clients."""
    certificates: Certificates

    @property
    def ca(self) -> Path:
        """The root certificate of the TLS listener."""
        return self.certificates.authority.path

    def stored_bytes(self, topic: str) -> int:
        """The size of a topic's segments on the disk."""
        folders = [folder for data in self.cluster.data_dirs for folder in data.glob(f"{topic}-*")]
        return sum(segment.stat().st_size for folder in folders for segment in folder.glob("*.log"))


@contextmanager
def bench_cluster(broker_port: int = 0) -> Iterator[BenchCluster]:
    """Run the broker; `broker_port` fixes the direct listener's port, for proxies that were started before."""
    with (
        TemporaryDirectory(prefix="kveil-bench-") as folder,
        reserved_ports(4) as (free, tls, forwarded, forwarder),
        kafka_cluster(heap_mb=HEAP_MB, java_options=JAVA_OPTIONS) as cluster,
    ):
        certificates = Certificates.make(Path(folder, "tls"))
        direct = broker_port or free
        node = cluster.nodes[0]
        settings = broker_properties(node.id, {node.id: node.ports}, Security.PLAINTEXT, node.data_dir)
        for name, port, advertised, security in (
            ("DIRECT", direct, direct, Security.PLAINTEXT),
            ("TLS", tls, tls, Security.SSL),
            ("FORWARDED", forwarded, forwarder, Security.PLAINTEXT),
        ):
            settings["listeners"] += f",{name}://127.0.0.1:{port}"
            settings["advertised.listeners"] += f",{name}://127.0.0.1:{advertised}"
            settings["listener.security.protocol.map"] += f",{name}:{security.value}"
            settings |= listener_properties(name, security, certificates)
        settings["log.segment.delete.delay.ms"] = "0"  # each round has a topic of its own
        cluster.stop_node(0)
        node.configure(settings)
        cluster.start_node(0)
        yield BenchCluster(
            cluster=cluster,
            direct=f"127.0.0.1:{direct}",
            tls=f"127.0.0.1:{tls}",
            forwarded_port=forwarded,
            forwarder_port=forwarder,
            certificates=certificates,
        )
