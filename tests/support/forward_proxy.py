"""Small HTTP CONNECT and SOCKS5 proxies, which connect to loopback whatever name they are given.

with ForwardProxy("socks5", username="eve", password="pass") as proxy:
    proxy.address, proxy.asked
"""

import base64
import socket
import threading
from contextlib import suppress
from typing import Self

SECONDS = 30.0


class ForwardProxy:
    """Takes connections until it is left; `asked` has the names and ports that it was asked for."""

    def __init__(self, scheme: str, username: str | None = None, password: str = "") -> None:
        self.scheme = scheme
        self.asked: list[tuple[str, int]] = []
        self.answer: bytes | None = None
        """What to say to CONNECT instead of connecting."""
        self._login = None if username is None else (username, password)
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for each in list(self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(SECONDS)
        for each in self._sockets:
            each.close()

    def _start(self, work, *arguments) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                taken, _ = self._listening.accept()
                self._sockets.append(taken)
                self._start(self._serve, taken)

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError):
            port = self._http(client) if self.scheme == "http" else self._socks5(client)
            if port is None:
                client.shutdown(socket.SHUT_RDWR)
                return
            broker = socket.create_connection(("127.0.0.1", port), SECONDS)
            broker.settimeout(None)
            self._sockets.append(broker)
            self._start(_pipe, broker, client)
            _pipe(client, broker)

    def _http(self, client: socket.socket) -> int | None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += _exactly(client, 1)
        line, *fields = head.decode().splitlines()
        method, target, _ = line.split(" ")
        host, _, port = target.rpartition(":")
        assert method == "CONNECT"
        self.asked.append((host, int(port)))
        wanted = None if self._login is None else base64.b64encode(":".join(self._login).encode()).decode()
        if wanted is not None and f"Proxy-Authorization: Basic {wanted}" not in fields:
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return None
        if self.answer is not None:
            client.sendall(self.answer)
            return None
        # In two pieces, as some proxies do it.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(b"HTTP/1.1 200 Connection established\r\n")
        client.sendall(b"Via: a test\r\n\r\n")
        return int(port)

    def _socks5(self, client: socket.socket) -> int | None:
        _, count = _exactly(client, 2)
        offered = _exactly(client, count)
        method = 0 if self._login is None else 2
        client.sendall(bytes([5, method if method in offered else 0xFF]))
        if method == 2:
            _, size = _exactly(client, 2)
            username = _exactly(client, size).decode()
            password = _exactly(client, _exactly(client, 1)[0]).decode()
            client.sendall(bytes([1, (username, password) != self._login]))
        _, _, _, kind = _exactly(client, 4)
        host = _exactly(client, _exactly(client, 1)[0]).decode() if kind == 3 else socket.inet_ntoa(_exactly(client, 4))
        port = int.from_bytes(_exactly(client, 2), "big")
        self.asked.append((host, port))
        client.sendall(bytes([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]))
        return port


def _exactly(source: socket.socket, count: int) -> bytes:
    taken = b""
    while len(taken) < count:
        piece = source.recv(count - len(taken))
        if not piece:
            raise EOFError
        taken += piece
    return taken


def _pipe(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
