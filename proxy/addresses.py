"""Which local port stands for which broker, and where that broker really is.

Brokers' places are predictable: the listener's own port + 1 + node id, for node ids below a configured count, and
`nodes: {id: port}` for others; with `addressing: loopback` it is the address that counts on, and the port stays. So
they are known before any broker is, and stay over restarts.
"""

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address
from typing import NamedTuple, Protocol


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
            f"the cluster has a broker with node id {node_id}, and local places are there for ids 0 to {count - 1}: "
            f"raise broker_ports.count, or give it one with nodes: {{{node_id}: PORT}}"
        )


class Brokers:
    """Where the brokers are, learnt from every answer that says so. Shared by all connections of a process."""

    def __init__(self, tell: Callable[[int, Endpoint], None] | None = None) -> None:
        """`tell` hears of each new address: other workers are to know it too."""
        self._endpoints: dict[int, Endpoint] = {}
        self._tell = tell

    def learn(self, node_id: int, endpoint: Endpoint) -> None:
        """Take note of a broker's address. The newest counts: brokers move."""
        if self._endpoints.get(node_id) != endpoint:
            self._endpoints[node_id] = endpoint
            if self._tell is not None:
                self._tell(node_id, endpoint)

    def hear(self, node_id: int, endpoint: Endpoint) -> None:
        """Take note of an address that another worker has learnt."""
        self._endpoints[node_id] = endpoint

    def all(self) -> Mapping[int, Endpoint]:
        """Return every address that is known."""
        return self._endpoints

    def find(self, node_id: int) -> Endpoint | None:
        """Return the broker's address, None if no answer has named it yet."""
        return self._endpoints.get(node_id)


class LocalPlaces(Protocol):
    """Where the clients of one listener find each broker. A host of None is the listener's own."""

    bootstrap: int

    def place_of(self, node_id: int) -> tuple[str | None, int]:
        """Return the host and port that stand for a broker.

        :raises UnreachableNode: there are none.
        """

    def places(self) -> Iterator[tuple[str | None, int, int | None]]:
        """Yield host, port and node id of every place that listens, the bootstrap place first, with node id None."""


class LocalPorts:
    """On the listener's host, each broker at a port of its own."""

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

    def place_of(self, node_id: int) -> tuple[str | None, int]:
        """Return the host and port that stand for a broker."""
        return None, self.port_of(node_id)

    def places(self) -> Iterator[tuple[str | None, int, int | None]]:
        """Yield every place that listens."""
        return ((None, port, node_id) for port, node_id in self.all().items())

    def all(self) -> dict[int, int | None]:
        """Return every port that listens, with the node id it stands for; None for the bootstrap port."""
        ports: dict[int, int | None] = {self.bootstrap: None}
        ports.update(
            {self.bootstrap + 1 + node_id: node_id for node_id in range(self._count) if node_id not in self._nodes}
        )
        ports.update({port: node_id for node_id, port in self._nodes.items()})
        return ports


class LocalHosts:
    """On the listener's port, each broker at a loopback address of its own: the listener's + 1 + node id."""

    def __init__(self, bootstrap: Endpoint, count: int, nodes: Mapping[int, int]) -> None:
        self.bootstrap = bootstrap.port
        self._first = IPv4Address(bootstrap.host) + 1
        self._count = count
        self._nodes = dict(nodes)

    def place_of(self, node_id: int) -> tuple[str | None, int]:
        """Return the host and port that stand for a broker."""
        if node_id in self._nodes:
            return None, self._nodes[node_id]
        if 0 <= node_id < self._count:
            return str(self._first + node_id), self.bootstrap
        raise UnreachableNode(node_id, self._count)

    def places(self) -> Iterator[tuple[str | None, int, int | None]]:
        """Yield every place that listens."""
        yield None, self.bootstrap, None
        for node_id in (*range(self._count), *self._nodes):
            yield *self.place_of(node_id), node_id
