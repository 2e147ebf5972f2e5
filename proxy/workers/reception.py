"""The doors in the parent's loop: watched while there is a worker for who comes."""

import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from kveil.proxy.config import Settings
from kveil.proxy.config.errors import ConfigError
from kveil.proxy.net.admin_socket import bind_admin
from kveil.proxy.net.doors import PAUSE_SECONDS, Arrival, Door, NoRoom, close_doors, listen_at, open_doors


class Reception:
    """Binds all ports when it is made. Who is let in goes to `hand_over`, which says whether more can be served.

    Who asks at the admin port goes to `show`.

    :raises ConfigError: a port is taken or not allowed.
    """

    def __init__(
        self,
        settings: Settings,
        selector: selectors.BaseSelector,
        hand_over: Callable[[Arrival], bool],
        connections: Callable[[], int],
        show: Callable[[socket.socket], None],
    ) -> None:
        self._settings = settings
        self._selector = selector
        self._hand_over = hand_over
        self._connections = connections
        self._show = show
        self._doors = open_doors(settings)
        try:
            self._admin = bind_admin(settings)
        except ConfigError:
            close_doors(self._doors)
            raise
        self._is_watching = False
        self._paused_until = 0.0
        self.is_open = False
        """Whether clients may connect."""

    def open(self, realm: str) -> None:
        """Let clients connect."""
        self.is_open = True
        listen_at(self._doors, self._settings, realm)

    def close(self) -> None:
        """Let nobody connect any more."""
        self._watch(on=False)
        self.is_open = False
        self.leave()

    def leave(self) -> None:
        """Close the sockets of this process: a child's copy, or the parent's at its end."""
        close_doors(self._doors)
        for sock in self._admin:
            sock.close()
        self._admin = ()

    def tend(self, now: float, *, has_workers: bool) -> None:
        """Look at the doors from now on, or don't. Clients that connect meanwhile wait."""
        self._watch(on=self.is_open and has_workers and self._paused_until <= now)

    def next_look(self, now: float) -> list[float]:
        """Return when to call `tend` again, if that is due by time alone."""
        return [self._paused_until] if self.is_open and self._paused_until > now else []

    def _watch(self, *, on: bool) -> None:
        if on is self._is_watching:
            return
        self._is_watching = on
        for sock in self._admin:
            if on:
                self._selector.register(sock, selectors.EVENT_READ, partial(self._accept_visit, sock))
            else:
                self._selector.unregister(sock)
        for door in self._doors:
            for sock, node_id in door.sockets:
                if on:
                    self._selector.register(sock, selectors.EVENT_READ, partial(self._accept, door, sock, node_id))
                else:
                    self._selector.unregister(sock)

    def _accept_visit(self, sock: socket.socket) -> None:
        """Somebody asks at the admin port."""
        with suppress(OSError):  # gone again, or there is no room: whoever asks will ask again
            self._show(sock.accept()[0])

    def _accept(self, door: Door, sock: socket.socket, node_id: int | None) -> None:
        try:
            for arrival in door.arrivals(sock, node_id, self._connections):
                if not self._hand_over(arrival):
                    return
        except NoRoom:
            self._paused_until = time.monotonic() + PAUSE_SECONDS
