"""Taking connections in this process's own event loop: the ports of all listeners."""

import asyncio
import socket
from collections.abc import Callable

from kveil.proxy.config import Settings
from kveil.proxy.net.doors import PAUSE_SECONDS, Arrival, Door, NoRoom, close_doors, listen_at, open_doors

Take = Callable[[Arrival, Callable[[], None]], None]
"""Serves a client that was let in, and calls the second argument, once, when it is gone."""


class Accepting:
    """Who is let in goes to `take`."""

    def __init__(self, settings: Settings, realm: str) -> None:
        self._settings = settings
        self._realm = realm
        self._doors: list[Door] = []
        self._take: Take | None = None
        self._connections = 0

    def open(self) -> None:
        """Bind the ports. Nobody can connect yet.

        :raises ConfigError: a port is taken or not allowed.
        """
        self._doors = open_doors(self._settings)

    def start(self, take: Take) -> None:
        """Take connections from now on."""
        self._take = take
        listen_at(self._doors, self._settings, self._realm)
        for door in self._doors:
            for sock, node_id in door.sockets:
                self._watch(door, sock, node_id)

    def close(self) -> None:
        """Take no more."""
        for door in self._doors:
            for sock, _ in door.sockets:
                asyncio.get_running_loop().remove_reader(sock)
        close_doors(self._doors)
        self._doors = []

    def _watch(self, door: Door, sock: socket.socket, node_id: int | None) -> None:
        if sock.fileno() >= 0:
            asyncio.get_running_loop().add_reader(sock, self._ready, door, sock, node_id)

    def _ready(self, door: Door, sock: socket.socket, node_id: int | None) -> None:
        try:
            for arrival in door.arrivals(sock, node_id, lambda: self._connections):
                if self._take is None:
                    arrival.sock.close()
                    continue
                self._connections += 1
                self._take(arrival, self._ended)
        except NoRoom:
            loop = asyncio.get_running_loop()
            loop.remove_reader(sock)
            loop.call_later(PAUSE_SECONDS, self._watch, door, sock, node_id)

    def _ended(self) -> None:
        self._connections -= 1
