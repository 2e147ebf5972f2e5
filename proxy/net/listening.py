"""One listener at work: how its clients connect, after they were let in. TLS handshake, and the login's users."""

import asyncio
import socket
from contextlib import suppress
from typing import NamedTuple

from kveil.proxy.config import Listener, Settings
from kveil.proxy.listener_login import ListenerLogin
from kveil.proxy.log import get_logger, log_limited
from kveil.proxy.net.doors import Arrival, local_places
from kveil.proxy.net.leg import Leg
from kveil.proxy.net.server_tls import ServerTls
from kveil.proxy.users.users_store import Users

_log = get_logger(__name__)


class _Gate(NamedTuple):
    """What clients are let in by."""

    tls: ServerTls | None
    users: Users | None
    handshake_seconds: float


class Listening:
    """What a listener knows of its clients.

    :raises UsersFileError: the users file can't be used.
    """

    def __init__(self, listener: Listener, settings: Settings) -> None:
        """Raises OSError or ValueError if a certificate can't be used."""
        self.listener = listener
        self.places = local_places(listener, settings)
        self.gate = _Gate(
            None if listener.tls is None else ServerTls(listener.tls, listener.label),
            None if listener.sasl is None else Users(listener.sasl.users),
            settings.limits.login_seconds,
        )
        self._handshakes: set[asyncio.Task[None]] = set()

    def new_login(self) -> ListenerLogin | None:
        """Return the login of one more connection, None where the listener asks for none."""
        sasl, users = self.listener.sasl, self.gate.users
        return None if sasl is None or users is None else ListenerLogin(users, sasl.mechanisms)

    def take_over(self, fresh: "Listening") -> None:
        """Let clients in as another one of the same listener does, from now on."""
        self.listener, self.gate = fresh.listener, fresh.gate

    def close(self) -> None:
        """End the handshakes that are under way."""
        for task in self._handshakes:
            task.cancel()

    def take(self, arrival: Arrival, leg: Leg) -> None:
        """Connect a client with its leg, or tell the leg that it is lost."""
        taken = arrival.sock
        taken.setblocking(False)
        with suppress(OSError):  # the client may be gone already
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = asyncio.get_running_loop().create_task(self._connect(leg, taken, arrival.host))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _connect(self, leg: Leg, taken: socket.socket, host: str) -> None:
        gate = self.gate
        context = None if gate.tls is None else gate.tls.context()
        is_connected = False
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: leg,
                taken,
                ssl=context,
                ssl_handshake_timeout=None if context is None else gate.handshake_seconds,
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
