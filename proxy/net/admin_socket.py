"""The sockets of the admin port, and the admin socket, which is a file."""

import errno
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

from kveil.proxy.config import HostPort, Settings
from kveil.proxy.config.errors import ConfigError, Problem
from kveil.proxy.config.listener_checks import LOCALHOST, hosts_at
from kveil.proxy.log import get_logger

_log = get_logger(__name__)
_BACKLOG = 64
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def bind_admin(settings: Settings) -> Sequence[socket.socket]:
    """Listen at the admin port and the admin socket; nothing where there is neither.

    :raises ConfigError: one is taken or not allowed.
    """
    address, path = settings.admin.address, settings.admin.socket
    sockets = [] if address is None else _bind_port(address)
    if path is not None:
        try:
            sockets.append(_bind_path(path))
        except OSError as error:
            for sock in sockets:
                sock.close()
            text = (
                f"{path} can't be had: {error.strerror}. Its folder must be there, and the proxy's user may write to it"
            )
            raise ConfigError([Problem(path="admin.socket", text=text)]) from None
    for sock in sockets:
        sock.setblocking(False)
    if sockets:
        names = {"address": address and str(address), "socket": path and str(path)}
        _log.info("admin_listening", **{name: value for name, value in names.items() if value})
    return sockets


def _bind_path(path: Path) -> socket.socket:
    """Return a socket that only this process's user can connect to. One that nobody listens at is replaced.

    :raises OSError: it can't be had.
    """
    _remove_left_behind(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(stat.S_IXUSR | stat.S_IRWXG | stat.S_IRWXO)
    try:
        sock.bind(str(path))
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def _remove_left_behind(path: Path) -> None:
    """Remove the socket of a proxy that has ended. Raises OSError if one listens there, or if it is no socket."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            if is_socket:
                path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "another proxy listens there")


def _bind_port(address: HostPort) -> list[socket.socket]:
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
    return sockets
