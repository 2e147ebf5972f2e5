"""What stands between the proxy and a key service that speaks HTTP: counts, answers in its place, or isn't there.

with HttpFront(("127.0.0.1", 8200)) as front:
    front.url, front.requests
    front.script = lambda request: Scripted(503, b"{}")
    front.close(); front.open()
"""

import http.client
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked. `headers` have lower-case names."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Scripted:
    """What is answered in the service's place."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # many calls come at once, and each is a connection


class HttpFront:
    """Passes on what no script answers. Each answer ends its connection."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._server: _Server | None = None
        self._changed = threading.Condition()
        self.requests: list[Request] = []
        self.script: Callable[[Request], Scripted | None] = lambda _: None
        # Bound all the time and never listening: the port stays ours, and refuses while the front is closed.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self.port: int = self._held.getsockname()[1]

    @property
    def url(self) -> str:
        """For the settings."""
        return f"http://127.0.0.1:{self.port}"

    def asked(self, path: str) -> int:
        """How many requests went to paths that end like this."""
        return sum(request.path.endswith(path) for request in self.requests)

    def wait_for(self, path: str, times: int) -> None:
        """Wait until so many requests went to such paths."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.asked(path) >= times, SECONDS), self.requests[-5:]

    def open(self) -> None:
        """Listen, if it doesn't yet."""
        if self._server is not None:
            return
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner._serve(self)

            def do_POST(self) -> None:
                owner._serve(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", self.port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._held.close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        request = Request(
            method=handler.command,
            path=handler.path,
            headers={name.lower(): value for name, value in handler.headers.items()},
            body=handler.rfile.read(int(handler.headers.get("Content-Length", "0"))),
        )
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        answer = self.script(request) or self._ask(request)
        try:
            handler.send_response(answer.status)
            for name, value in answer.headers:
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(answer.body)))
            handler.end_headers()
            handler.wfile.write(answer.body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # whoever asked has heard enough

    def _ask(self, request: Request) -> Scripted:
        connection = http.client.HTTPConnection(*self._target, timeout=SECONDS)
        try:
            connection.request(request.method, request.path, request.body, request.headers)
            response = connection.getresponse()
            return Scripted(response.status, response.read())
        finally:
            connection.close()
