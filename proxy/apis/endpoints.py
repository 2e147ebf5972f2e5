"""Brokers' addresses in answers: each is replaced with the local one that stands for the broker."""

from collections.abc import Iterable, Sequence
from typing import Any

from kveil.protocol.kafka.primitives import Buffer, write_string
from kveil.protocol.kafka.splice import Edit, FrozenShape, Shape, Want, splice
from kveil.proxy.addresses import Endpoint, UnreachableNode
from kveil.proxy.apis.exchange import Exchange
from kveil.proxy.context import Connection
from kveil.proxy.errors import CloseConnection

ENDPOINT: Shape = {"node_id": Want.VALUE, "host": Want.DATA, "port": Want.SPAN}
"""A broker and its address, as most answers have them."""

_NO_PORT = (-1).to_bytes(4, "big", signed=True)


def endpoint_edits(
    frame: memoryview, endpoints: Iterable[tuple[Any, ...]] | None, connection: Connection, *, compact: bool
) -> list[Edit]:
    """Return the edits that put local addresses in the place of those found by the shape `ENDPOINT`.

    :raises CloseConnection: a broker has no local port.
    """
    edits = []
    for node_id, (host_start, host_data, host_end), (port_start, port_end) in endpoints or ():
        port = int.from_bytes(frame[port_start:port_end], "big", signed=True)
        if port < 0:
            continue  # nobody: a coordinator that isn't there, say
        if node_id < 0:  # nobody, and yet a place to connect to: a way around the proxy
            edits.append(Edit(host_start, host_end, [write_string("", compact=compact)]))
            edits.append(Edit(port_start, port_end, [_NO_PORT]))
            continue
        host = str(frame[host_data:host_end], "utf-8", "replace")
        try:
            local = connection.local_endpoint(node_id, Endpoint(host, port))
        except UnreachableNode as error:
            raise CloseConnection(str(error)) from error
        edits.append(Edit(host_start, host_end, [write_string(local.host, compact=compact)]))
        edits.append(Edit(port_start, port_end, [local.port.to_bytes(4, "big")]))
    return edits


class DescribeCluster(Exchange):
    """Brokers' addresses (KIP-700). With endpoint type 2 they would be controllers', which clients can't reach."""

    RESPONSE = FrozenShape({"brokers": {"broker_id": Want.VALUE, "host": Want.DATA, "port": Want.SPAN}})
    CARRIES_ADDRESSES = True

    def response(self, frame: memoryview) -> Sequence[Buffer] | None:
        """Return the answer with local addresses."""
        walker = self.response_walker
        (brokers,), sections = walker(frame)
        return splice(frame, endpoint_edits(frame, brokers, self.connection, compact=walker.flexible), sections)


class FindCoordinator(Exchange):
    """The coordinator's address: at the top up to version 3, in a list from version 4 on (KIP-699)."""

    RESPONSE = FrozenShape({**ENDPOINT, "coordinators": ENDPOINT})
    CARRIES_ADDRESSES = True

    def response(self, frame: memoryview) -> Sequence[Buffer] | None:
        """Return the answer with local addresses."""
        walker = self.response_walker
        (node_id, host, port, coordinators), sections = walker(frame)
        if coordinators is None:
            coordinators = [(node_id, host, port)]
        return splice(frame, endpoint_edits(frame, coordinators, self.connection, compact=walker.flexible), sections)


class ShareAcknowledge(Exchange):
    """Addresses of partitions' new leaders (KIP-932)."""

    RESPONSE = FrozenShape({"node_endpoints": ENDPOINT})
    CARRIES_ADDRESSES = True

    def response(self, frame: memoryview) -> Sequence[Buffer] | None:
        """Return the answer with local addresses."""
        walker = self.response_walker
        (endpoints,), sections = walker(frame)
        return splice(frame, endpoint_edits(frame, endpoints, self.connection, compact=walker.flexible), sections)
