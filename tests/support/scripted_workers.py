"""A supervisor whose workers say to their clients what they know, as a program of its own.

    python -m tests.support.scripted_workers CONFIG

A worker tells a client, in one line of JSON, its number and the last port that it has heard a broker to have. A client
answers with one byte: `b` and the worker first tells the parent of a broker with the next port, `x` and it exits.
"""

import os
import select
import socket
import sys
from functools import partial
from pathlib import Path

from kveil.proxy import log
from kveil.proxy.config import load
from kveil.proxy.workers.channel import Channel, Message
from kveil.proxy.workers.supervisor import Supervisor


class ScriptedWorker:
    """One worker, one client at a time."""

    def __init__(self, number: int, sock: socket.socket) -> None:
        self._number = number
        self._channel = Channel(sock)
        self._port = 0

    def run(self) -> int:
        """Serve until the parent is gone or says so."""
        self._channel.send("ready", realm="scripted")
        self._channel.send("report", cpu_seconds=0.0, samples={"kveil_connections_total": 1})
        while not self._channel.is_closed:
            select.select([self._channel], [], [])
            for message in self._channel.receive():
                if message.kind == "drain":
                    return 0
                self._hear(message)
        return 1

    def _hear(self, message: Message) -> None:
        if message.kind == "broker":
            self._port = message.values["port"]
        elif message.sock is not None:
            with message.sock as client:
                client.setblocking(True)
                client.sendall(b'{"worker": %d, "pid": %d, "port": %d}\n' % (self._number, os.getpid(), self._port))
                self._obey(client.recv(1))
            self._channel.send("ended", number=message.values["number"])

    def _obey(self, wish: bytes) -> None:
        if wish == b"b":
            self._channel.send("broker", node_id=0, host="broker", port=self._port + 1)
        elif wish == b"x":
            os._exit(3)


def main() -> None:
    """Run until SIGTERM."""
    log.configure("json", "debug")
    read = partial(load, Path(sys.argv[1]))
    sys.exit(Supervisor(read(), lambda number, sock: ScriptedWorker(number, sock).run(), read).run())


if __name__ == "__main__":
    main()
