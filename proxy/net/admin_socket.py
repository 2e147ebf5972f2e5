"""The sockets of the admin port."""

import errno
import socket
from collections.abc import Sequence

from kveil.proxy.config import Settings
from kveil.proxy.config.errors import ConfigError, Problem
from kveil.proxy.config.listener_checks import LOCALHOST, hosts_at
from kveil.proxy.log import get_logger

_log = get_logger(__name__)
_BACKLOG = 64
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def bind_admin(settings: Settings) -> Sequence[socket.socket]:
    """Listen at the admin port; nothing where there is none.

    :raises ConfigError: it is taken or not allowed.
    """
    address = settings.admin.address
    if address is None:
        return ()
    sockets: list[socket.socket] = []
    for host in hosts_at(address):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            sockets.append(socket.create_server((host, address.port), family=family, backlog=_BACKLOG))
        except OSError as error:
            if error.errno in _NOT_HERE and host == LOCALHOST[1] and sockets:
                continue  # the second address of localhost, which not every machine has
            for sock in sockets:
                sock.close()
            text = (
                f"port {address.port} of {host} can't be had: {error.strerror}. Stop what holds it, or choose another"
            )
            raise ConfigError([Problem(path="admin.address", text=text)]) from None
    for sock in sockets:
        sock.setblocking(False)
    _log.info("admin_listening", address=str(address))
    return sockets
