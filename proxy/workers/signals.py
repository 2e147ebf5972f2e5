"""Signals to the parent, as bytes that its loop can wait for."""

import signal
import socket
from collections.abc import Callable


class Signals:
    """Calls what belongs to each signal when `handle` is called, which is due when this can be read."""

    def __init__(self, *, stop: Callable[[], None], reload: Callable[[], None], report: Callable[[], None]) -> None:
        self._actions = {
            signal.SIGTERM: self._stop_once,
            signal.SIGINT: self._stop_once,
            signal.SIGHUP: reload,
            signal.SIGUSR1: report,
        }
        self._stop = stop
        self.has_stopped = False
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._far.setblocking(False)
        signal.set_wakeup_fd(self._far.fileno(), warn_on_full_buffer=False)
        for number in self._actions:
            signal.signal(number, lambda *_: None)  # without one of Python's own no byte is written

    def fileno(self) -> int:
        """For selectors."""
        return self._near.fileno()

    def handle(self) -> None:
        """Act on the signals that have come."""
        for number in self._near.recv(1024):
            if number in self._actions:
                self._actions[signal.Signals(number)]()

    def close(self) -> None:
        """Listen to none any more."""
        signal.set_wakeup_fd(-1)
        self._near.close()
        self._far.close()

    def _stop_once(self) -> None:
        if not self.has_stopped:
            self.has_stopped = True
            self._stop()
