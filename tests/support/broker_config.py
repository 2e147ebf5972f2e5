"""The server.properties of a test broker."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.security import Certificates, Security, listener_properties, properties_text

CLIENT, INTERNAL, CONTROLLER = "CLIENT", "INTERNAL", "CONTROLLER"

# Small and prompt, where Kafka's defaults are made for big machines and long lives.
_SMALL = {
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.recovery.threads.per.data.dir": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A new member is told its partitions by an answer to a heartbeat.
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "500",
    "group.share.min.heartbeat.interval.ms": "500",
    "group.share.heartbeat.interval.ms": "500",
    "group.streams.initial.rebalance.delay.ms": "0",
    "group.streams.min.heartbeat.interval.ms": "500",
    "group.streams.heartbeat.interval.ms": "500",
    # A killed application is missed, and its transaction ended, as soon as it asked for.
    "group.min.session.timeout.ms": "1000",
    "group.streams.min.session.timeout.ms": "3000",
    "group.streams.session.timeout.ms": "3000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    # Tests use timestamps of long ago, which the first check of the retention would delete while they run.
    "log.retention.ms": "-1",
    "log.cleaner.dedupe.buffer.size": str(16 << 20),
    "log.index.size.max.bytes": str(1 << 20),
    # A killed node may come back only when its session is over.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerPorts:
    """The loopback ports of one node: for clients, between brokers, and for the quorum."""

    client: int
    internal: int
    controller: int


def _replication(nodes: int) -> dict[str, str]:
    factor, in_sync = str(min(nodes, 3)), str(2 if nodes >= 3 else 1)
    return {
        "offsets.topic.replication.factor": factor,
        "transaction.state.log.replication.factor": factor,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": factor,
        "share.coordinator.state.topic.min.isr": in_sync,
    }


def _authorizer() -> dict[str, str]:
    return {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The internal listener and the quorum know no logins: they are the cluster and the test's own admin.
        "super.users": "User:ANONYMOUS;User:admin",
    }


def rack_properties(rack: str) -> dict[str, str]:
    """Where a node stands, and that followers serve consumers who stand there too."""
    selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
    return {"broker.rack": rack, "replica.selector.class": selector}


def broker_properties(
    node_id: int,
    ports: Mapping[int, BrokerPorts],
    security: Security,
    data_dir: Path,
    *,
    certificates: Certificates | None = None,
    acls: bool = False,
) -> dict[str, str]:
    """Settings of one node, broker and controller, with a listener for clients and one between brokers."""
    own = ports[node_id]
    client, internal = f"{CLIENT}://127.0.0.1:{own.client}", f"{INTERNAL}://127.0.0.1:{own.internal}"
    protocols = f"{CLIENT}:{security.value},{INTERNAL}:PLAINTEXT,{CONTROLLER}:PLAINTEXT"
    voters = ",".join(f"{each}@127.0.0.1:{ports[each].controller}" for each in ports)
    settings = {
        "process.roles": "broker,controller",
        "node.id": str(node_id),
        "controller.quorum.voters": voters,
        "controller.listener.names": CONTROLLER,
        "inter.broker.listener.name": INTERNAL,
        "listeners": f"{client},{internal},{CONTROLLER}://127.0.0.1:{own.controller}",
        "advertised.listeners": f"{client},{internal}",
        "listener.security.protocol.map": protocols,
        "log.dirs": str(data_dir),
    }
    settings |= _SMALL | _replication(len(ports)) | listener_properties(CLIENT, security, certificates)
    return settings | (_authorizer() if acls else {})


def write_properties(path: Path, settings: Mapping[str, str]) -> None:
    """Write a properties file that only we may read: it may hold passwords."""
    path.touch(mode=0o600)
    path.write_text(properties_text(settings))
