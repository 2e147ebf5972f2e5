"""The listening sockets of one listener: who is let in, before the first byte is read, and the TLS handshake."""

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from kveil.proxy.addresses import Endpoint, LocalHosts, LocalPlaces, LocalPorts
from kveil.proxy.config import Addressing, Listener, Settings
from kveil.proxy.config.errors import ConfigError, Problem
from kveil.proxy.config.listener_checks import LOCALHOST, hosts_of
from kveil.proxy.listener_login import ListenerLogin
from kveil.proxy.log import get_logger, log_limited
from kveil.proxy.net.leg import Leg
from kveil.proxy.net.server_tls import ServerTls
from kveil.proxy.networks import AllowedAddresses
from kveil.proxy.users.users_store import Users

_log = get_logger(__name__)

BACKLOG = 1024
"""Connections that may wait to be accepted: after a restart all of an application's come at once."""

PAUSE_SECONDS = 1.0
"""How long nothing is accepted when the system has no room for another socket."""

_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

_Bound = list[tuple[socket.socket, int | None]]
Accept = Callable[[int | None], Leg | None]
"""Makes the leg of a client of the broker with this node id; None if there is no room for one more."""


def local_places(listener: Listener, settings: Settings) -> LocalPlaces:
    """Return where the clients of a listener find each broker."""
    count, nodes = settings.broker_ports.count, settings.node_ports(listener)
    if listener.addressing is Addressing.LOOPBACK:
        return LocalHosts(Endpoint(hosts_of(listener)[0], listener.address.port), count, nodes)
    return LocalPorts(listener.address.port, count, nodes)


class Listening:
    """One listener at work: who may connect to it, and how. Every socket is bound when it is made.

    :raises ConfigError: a port is taken or not allowed.
    :raises UsersFileError: the users file can't be used.
    """

    def __init__(self, listener: Listener, settings: Settings) -> None:
        self.listener = listener
        self.places = local_places(listener, settings)
        self._allowed = AllowedAddresses(settings, listener)
        self._tls = None if listener.tls is None else ServerTls(listener.tls, listener.label)
        self._users = None if listener.sasl is None else Users(listener.sasl.users)
        self._sockets = _bind(listener, self.places)
        self._handshake_seconds = settings.limits.login_seconds
        self._handshakes: set[asyncio.Task[None]] = set()
        self._accept: Accept | None = None

    def described(self) -> dict[str, object]:
        """What the log says of it."""
        listener = self.listener
        *_, (host, port, _) = self.places.places()
        return {
            "address": str(listener.address),
            **({"name": listener.name} if listener.name else {}),
            "direction": listener.direction.value,
            "last_broker": str(Endpoint(host or listener.advertised_host, port)),
            "tls": listener.tls is not None,
            "login": listener.sasl is not None,
        }

    def new_login(self) -> ListenerLogin | None:
        """Return the login of one more connection, None where the listener asks for none."""
        sasl = self.listener.sasl
        return None if sasl is None or self._users is None else ListenerLogin(self._users, sasl.mechanisms)

    def reload(self) -> None:
        """Read certificates and users again."""
        if self._tls is not None:
            self._tls.reload()
        if self._users is not None:
            self._users.refresh()

    def start(self, accept: Accept) -> None:
        """Take connections from now on."""
        self._accept = accept
        for sock, node_id in self._sockets:
            sock.listen(BACKLOG)
            sock.setblocking(False)
            self._watch(sock, node_id)

    def close(self) -> None:
        """Take no more."""
        for sock, _ in self._sockets:
            if self._accept is not None:
                asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        self._sockets = []
        for task in self._handshakes:
            task.cancel()

    def _watch(self, sock: socket.socket, node_id: int | None) -> None:
        if sock.fileno() >= 0:
            asyncio.get_running_loop().add_reader(sock, self._ready, sock, node_id)

    def _ready(self, sock: socket.socket, node_id: int | None) -> None:
        for _ in range(BACKLOG):
            try:
                taken, address = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                log_limited(_log.error, "accept_failed", listener=self.listener.label, reason=error.strerror)
                loop = asyncio.get_running_loop()
                loop.remove_reader(sock)
                loop.call_later(PAUSE_SECONDS, self._watch, sock, node_id)
                return
            self._take(taken, address[0], node_id)

    def _take(self, taken: socket.socket, host: str, node_id: int | None) -> None:
        leg = None
        if self._allowed.admitted_by(host) is None:
            log_limited(
                _log.warning,
                "address_refused",
                key=(self.listener.label, host),
                listener=self.listener.label,
                client=host,
            )
        elif self._accept is not None:
            leg = self._accept(node_id)
        if leg is None:
            taken.close()
            return
        taken.setblocking(False)
        with suppress(OSError):  # the client may be gone already
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = asyncio.get_running_loop().create_task(self._connect(leg, taken, host))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _connect(self, leg: Leg, taken: socket.socket, host: str) -> None:
        context = None if self._tls is None else self._tls.context()
        is_connected = False
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: leg,
                taken,
                ssl=context,
                ssl_handshake_timeout=None if context is None else self._handshake_seconds,
            )
            is_connected = True
        except OSError as error:
            taken.close()
            if context is None or isinstance(error, ConnectionResetError):
                return  # it has gone again: somebody looked whether the port is open
            log_limited(
                _log.warning,
                "tls_handshake_failed",
                key=(self.listener.label, host),
                listener=self.listener.label,
                client=host,
                reason=str(error) or type(error).__name__,
            )
        finally:
            if not is_connected:
                leg.connection_lost(None)  # the event loop says so only of what was connected


def _bind(listener: Listener, places: LocalPlaces) -> _Bound:
    sockets: _Bound = []
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
