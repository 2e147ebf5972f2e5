"""Which local port stands for which broker, and where that broker really is.

Broker ports are predictable: the listener's own port + 1 + node id, for node ids below a configured count, and
`nodes: {id: port}` for others. So they are known before any broker is, and stay over restarts.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Endpoint(NamedTuple):
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class UnreachableNode(Exception):
    """A broker has a node id for which no local port is set."""

    def __init__(self, node_id: int, count: int) -> None:
        super().__init__(
            f"the cluster has a broker with node id {node_id}, and local ports are there for ids 0 to {count - 1}: "
            f"raise broker_ports.count, or give it one with nodes: {{{node_id}: PORT}}"
        )


class Brokers:
    """Where the brokers are, learnt from every answer that says so. Shared by all connections of a process."""

    def __init__(self) -> None:
        self._endpoints: dict[int, Endpoint] = {}

    def learn(self, node_id: int, endpoint: Endpoint) -> None:
        """Take note of a broker's address. The newest counts: brokers move."""
        self._endpoints[node_id] = endpoint

    def find(self, node_id: int) -> Endpoint | None:
        """Return the broker's address, None if no answer has named it yet."""
        return self._endpoints.get(node_id)


class LocalPorts:
    """The ports of one listener."""

    def __init__(self, bootstrap_port: int, count: int, nodes: Mapping[int, int]) -> None:
        self.bootstrap = bootstrap_port
        self._count = count
        self._nodes = dict(nodes)

    def port_of(self, node_id: int) -> int:
        """Return the local port that stands for a broker.

        :raises UnreachableNode: there is none.
        """
        if node_id in self._nodes:
            return self._nodes[node_id]
        if 0 <= node_id < self._count:
            return self.bootstrap + 1 + node_id
        raise UnreachableNode(node_id, self._count)

    def all(self) -> dict[int, int | None]:
        """Return every port that listens, with the node id it stands for; None for the bootstrap port."""
        ports: dict[int, int | None] = {self.bootstrap: None}
        ports.update(
            {self.bootstrap + 1 + node_id: node_id for node_id in range(self._count) if node_id not in self._nodes}
        )
        ports.update({port: node_id for node_id, port in self._nodes.items()})
        return ports
