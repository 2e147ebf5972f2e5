"""A real Apache Kafka cluster for tests and scripts.

    with kafka_cluster(nodes=1) as cluster:
        cluster.create_topic("orders", partitions=3)
        Producer({"bootstrap.servers": cluster.bootstrap})

Every node is broker and controller. Clients use one listener, protected as asked for; the brokers and this
module's own admin client use another one on loopback without login. Nothing is left behind: no process, port
or file.
"""

import base64
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AclOperation, AclPermissionType, ResourceType

from tests.support import storage
from tests.support.broker_config import BrokerPorts, broker_properties, rack_properties
from tests.support.client_settings import aiokafka_settings, java_settings, librdkafka_settings
from tests.support.cluster_admin import ClusterAdmin
from tests.support.containers import choose_launcher
from tests.support.jvm import KAFKA_VERSION
from tests.support.node import BrokerNode
from tests.support.ports import reserved_ports
from tests.support.security import Certificates, Login, Security, scram_arguments

__all__ = ["Cluster", "Login", "Security", "kafka_cluster"]

_ALICE = Login()


class Cluster:
    """A running cluster: where it listens, its nodes, its topics, its disks."""

    def __init__(
        self,
        nodes: Sequence[BrokerNode],
        security: Security,
        certificates: Certificates | None,
        cluster_id: str,
    ) -> None:
        self.nodes = list(nodes)
        self.security = security
        self.certificates = certificates
        self.cluster_id = cluster_id
        self._admin = ClusterAdmin(self.internal_bootstrap)

    @property
    def bootstrap_servers(self) -> list[str]:
        """The client listener of every node."""
        return [node.address for node in self.nodes]

    @property
    def bootstrap(self) -> str:
        """The client listener of the first node."""
        return self.nodes[0].address

    @property
    def internal_bootstrap(self) -> str:
        """The listener without login, on which everyone is a super user."""
        return ",".join(f"127.0.0.1:{node.ports.internal}" for node in self.nodes)

    @property
    def data_dirs(self) -> list[Path]:
        """Where the nodes keep their logs."""
        return [node.data_dir for node in self.nodes]

    def start(self) -> None:
        """Start all nodes at once and wait until each of them serves and knows the others."""
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait_until_started()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until the cluster consists of the nodes that run."""
        self._admin.wait_for_brokers({node.id for node in self.nodes if node.running})

    def start_node(self, index: int) -> None:
        """Start a stopped node with the same ports and data, and wait until it has joined."""
        self.nodes[index].launch()
        self.nodes[index].wait_until_started()
        self.wait_until_ready()

    def stop_node(self, index: int) -> None:
        """Stop a node in order."""
        self.nodes[index].stop()

    def kill_node(self, index: int) -> None:
        """Kill a node."""
        self.nodes[index].kill()

    def create_topic(
        self, name: str, partitions: int = 1, replication: int = 1, config: Mapping[str, object] | None = None
    ) -> None:
        """Create a topic and wait until it can be used."""
        self._admin.create_topic(name, partitions, replication, config)

    def delete_topic(self, name: str) -> None:
        """Delete a topic and wait until it is gone."""
        self._admin.delete_topic(name)

    def alter_topic_config(self, name: str, config: Mapping[str, object | None]) -> None:
        """Set topic settings; None removes one."""
        self._admin.alter_topic_config(name, config)

    def topic_config(self, name: str) -> dict[str, str]:
        """A topic's settings as the broker sees them."""
        return self._admin.topic_config(name)

    def allow(self, user: str, kind: ResourceType, name: str, operation: AclOperation) -> None:
        """Allow a user something; needs `acls=True`."""
        self._admin.set_acl(user, kind, name, operation, AclPermissionType.ALLOW)

    def deny(self, user: str, kind: ResourceType, name: str, operation: AclOperation) -> None:
        """Deny a user something; needs `acls=True`."""
        self._admin.set_acl(user, kind, name, operation, AclPermissionType.DENY)

    def stored_bytes(self, topic: str) -> bytes:
        """All segments of a topic as they lie on the disks."""
        return storage.stored_bytes(self.data_dirs, topic)

    def files_with(self, marker: bytes) -> list[Path]:
        """The files on the disks that contain these bytes; compressed records are not unpacked."""
        return storage.files_with(self.data_dirs, marker)

    def contains(self, marker: bytes) -> bool:
        """Whether these bytes lie anywhere on the disks; compressed records are not unpacked."""
        return bool(self.files_with(marker))

    def client_settings(
        self, login: Login = _ALICE, *, bootstrap: str | None = None, security: Security | None = None
    ) -> dict[str, Any]:
        """Settings for confluent_kafka; a proxy's address and listener may stand in for the broker's."""
        security = security or self.security
        return librdkafka_settings(bootstrap or self.bootstrap, security, self.certificates, login)

    def java_settings(
        self, login: Login = _ALICE, *, bootstrap: str | None = None, security: Security | None = None
    ) -> dict[str, str]:
        """The same for a Java client."""
        return java_settings(bootstrap or self.bootstrap, security or self.security, self.certificates, login)

    def aiokafka_settings(
        self, login: Login = _ALICE, *, bootstrap: str | None = None, security: Security | None = None
    ) -> dict[str, Any]:
        """The same for aiokafka."""
        return aiokafka_settings(bootstrap or self.bootstrap, security or self.security, self.certificates, login)


@contextmanager
def kafka_cluster(
    nodes: int = 1,
    properties: Mapping[str, object] | None = None,
    security: Security = Security.PLAINTEXT,
    *,
    acls: bool = False,
    heap_mb: int = 384,
    java_options: Sequence[str] = (),
    folder: Path | None = None,
    first_id: int = 0,
    version: str | None = None,
    racks: Sequence[str] = (),
) -> Iterator[Cluster]:
    """Run a cluster for the length of a `with` block; node ids count from `first_id`.

    Without a version it is the one that TEST_KAFKA_VERSION names, or else the usual one. With a rack for each node,
    followers serve the consumers of their rack (KIP-392).
    """
    with (
        tempfile.TemporaryDirectory(prefix="kveil-kafka-", dir=folder, ignore_cleanup_errors=True) as work,
        reserved_ports(3 * nodes) as free,
    ):
        base = Path(work)
        launcher = choose_launcher(base, version or os.environ.get("TEST_KAFKA_VERSION", KAFKA_VERSION))
        certificates = Certificates.make(base / "tls") if security.tls else None
        ports = {
            first_id + each: BrokerPorts(
                client=free[each], internal=free[nodes + each], controller=free[2 * nodes + each]
            )
            for each in range(nodes)
        }
        members = [
            BrokerNode(each, ports[each], base / f"node-{each}", launcher, heap_mb=heap_mb, options=java_options)
            for each in ports
        ]
        for node in members:
            settings = broker_properties(node.id, ports, security, node.data_dir, certificates=certificates, acls=acls)
            settings |= rack_properties(racks[node.id - first_id]) if racks else {}
            node.configure(settings | {key: str(value) for key, value in (properties or {}).items()})
        try:
            yield _started(Cluster(members, security, certificates, _new_cluster_id()))
        finally:
            for node in members:
                node.kill()  # the data goes with the folder: nothing to end in order


def _started(cluster: Cluster) -> Cluster:
    extra = scram_arguments() if cluster.security.sasl else []
    with ThreadPoolExecutor(len(cluster.nodes)) as pool:
        list(pool.map(lambda node: node.format(cluster.cluster_id, extra), cluster.nodes))
    cluster.start()
    return cluster


def _new_cluster_id() -> str:
    # As Kafka's own Uuid.randomUuid: an id that begins with a dash would be read as an option.
    while (cluster_id := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return cluster_id
