"""The listening sockets of one listener: bound once, and who is let in, before the first byte is read."""

import errno
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from kveil.proxy.addresses import Endpoint, LocalHosts, LocalPlaces, LocalPorts
from kveil.proxy.config import Addressing, Listener, Settings
from kveil.proxy.config.errors import ConfigError, Problem
from kveil.proxy.config.listener_checks import LOCALHOST, hosts_of
from kveil.proxy.log import get_logger, log_limited
from kveil.proxy.networks import AllowedAddresses

_log = get_logger(__name__)

BACKLOG = 1024
"""Connections that may wait to be accepted: after a restart all of an application's come at once."""

PAUSE_SECONDS = 1.0
"""How long nothing is accepted when the system has no room for another socket."""

_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class Arrival(NamedTuple):
    """A client that was let in."""

    place: int
    """Which listener, by its place in the configuration."""
    node_id: int | None
    """The broker that the port stands for, None for the bootstrap port."""
    sock: socket.socket
    host: str


class NoRoom(Exception):
    """The system has no room for another socket: try again after `PAUSE_SECONDS`."""


def local_places(listener: Listener, settings: Settings) -> LocalPlaces:
    """Return where the clients of a listener find each broker."""
    count, nodes = settings.broker_ports.count, settings.node_ports(listener)
    if listener.addressing is Addressing.LOOPBACK:
        return LocalHosts(Endpoint(hosts_of(listener)[0], listener.address.port), count, nodes)
    return LocalPorts(listener.address.port, count, nodes)


class Door:
    """The sockets of one listener, bound when it is made.

    :raises ConfigError: a port is taken or not allowed.
    """

    def __init__(self, place: int, settings: Settings) -> None:
        self._place = place
        self._listener = settings.listeners[place]
        self._places = local_places(self._listener, settings)
        self._allowed = AllowedAddresses(settings, self._listener)
        self._most = settings.limits.max_connections
        self.sockets = _bind(self._listener, self._places)
        """Each with the node id of the broker that it stands for."""

    def listen(self) -> None:
        """Let clients connect from now on.

        :raises ConfigError: another program was faster: several may bind a port until the first of them listens.
        """
        for sock, node_id in self.sockets:
            try:
                sock.listen(BACKLOG)
            except OSError as error:
                host, port, *_ = sock.getsockname()
                raise ConfigError([_port_problem(host, port, node_id, error)]) from None
            sock.setblocking(False)

    def close(self) -> None:
        """Let nobody connect any more."""
        for sock, _ in self.sockets:
            sock.close()
        self.sockets = []

    def described(self) -> dict[str, object]:
        """What the log says of it."""
        listener = self._listener
        *_, (host, port, _) = self._places.places()
        return {
            "address": str(listener.address),
            **({"name": listener.name} if listener.name else {}),
            "direction": listener.direction.value,
            "last_broker": str(Endpoint(host or listener.advertised_host, port)),
            "tls": listener.tls is not None,
            "login": listener.sasl is not None,
        }

    def arrivals(self, sock: socket.socket, node_id: int | None, connections: Callable[[], int]) -> Iterator[Arrival]:
        """Yield the clients that wait at one of the sockets and may come in. `connections` says how many there are.

        :raises NoRoom: the system has no room for another socket.
        """
        for _ in range(BACKLOG):
            try:
                taken, address = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                log_limited(_log.error, "accept_failed", listener=self._listener.label, reason=error.strerror)
                raise NoRoom from error
            if self._admits(address[0], connections()):
                yield Arrival(self._place, node_id, taken, address[0])
            else:
                taken.close()

    def _admits(self, host: str, connections: int) -> bool:
        label = self._listener.label
        if self._allowed.admitted_by(host) is None:
            log_limited(_log.warning, "address_refused", key=(label, host), listener=label, client=host)
            return False
        if connections >= self._most:
            log_limited(_log.warning, "too_many_connections", max_connections=self._most)
            return False
        return True


def open_doors(settings: Settings) -> list[Door]:
    """Bind the ports of all listeners.

    :raises ConfigError: one is taken or not allowed.
    """
    doors: list[Door] = []
    try:
        for place in range(len(settings.listeners)):
            doors.append(Door(place, settings))  # noqa: PERF401 - those made so far are closed if one can't be
    except ConfigError:
        close_doors(doors)
        raise
    return doors


def close_doors(doors: Sequence[Door]) -> None:
    """Let nobody connect any more."""
    for door in doors:
        door.close()


def listen_at(doors: Sequence[Door], settings: Settings, realm: str) -> None:
    """Let clients connect from now on, and say so."""
    for door in doors:
        door.listen()
        upstream = [str(address) for address in settings.upstream.bootstrap]
        _log.info("listening", **door.described(), upstream=upstream, realm=realm)


def _bind(listener: Listener, places: LocalPlaces) -> list[tuple[socket.socket, int | None]]:
    sockets: list[tuple[socket.socket, int | None]] = []
    problems = []
    for host, port, node_id in places.places():
        for each in (host,) if host is not None else hosts_of(listener):
            try:
                sockets += [(sock, node_id) for sock in _bind_one(listener, each, port)]
            except (OSError, OverflowError) as error:
                problems.append(_port_problem(each, port, node_id, error))
        if problems and node_id is None:
            break  # a second instance, most likely: the other ports would say the same
    if problems:
        for sock, _ in sockets:
            sock.close()
        raise ConfigError(problems)
    return sockets


def _bind_one(listener: Listener, host: str, port: int) -> Iterator[socket.socket]:
    """Bind every address that a host stands for."""
    for family, address in _addresses(host, port):
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            if error.errno in _NOT_HERE and _is_spare(listener, host):
                return
            raise
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
        except (OSError, OverflowError) as error:
            sock.close()
            if isinstance(error, OSError) and error.errno in _NOT_HERE and _is_spare(listener, host):
                return
            raise
        yield sock


def _addresses(host: str, port: int) -> Iterable[tuple[socket.AddressFamily, tuple[str, int]]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return dict.fromkeys((family, (str(address[0]), int(address[1]))) for family, _, _, _, address in found)


def _is_spare(listener: Listener, host: str) -> bool:
    """Whether this is the second address of localhost, which not every machine has."""
    return host == LOCALHOST[1] and hosts_of(listener) == LOCALHOST


def _port_problem(host: str, port: int, node_id: int | None, error: Exception) -> Problem:
    what = "clients connect to first" if node_id is None else f"stands for the broker with node id {node_id}"
    return Problem(
        path="listeners",
        text=f"port {port} of {host}, which {what}, can't be had: {error}. Stop what holds it, or "
        "choose another port with listeners[].address (broker ports follow it; broker_ports.count says how many)",
    )
