"""An authorization server: it gives unsecured tokens, which the test brokers believe, for client credentials.

with TokenServer() as server:
    server.url, server.requests, server.life_seconds = 4
"""

import base64
import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote_plus

CLIENT_ID, CLIENT_SECRET = "kveil sidecar", "s3cret:of%the client"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What was asked, and with which login."""

    client_id: str
    client_secret: str
    form: dict[str, str]


class TokenServer:
    """Answers as its attributes say."""

    def __init__(self, subject: str = "alice") -> None:
        self.subject = subject
        self.life_seconds = 600.0
        self.age_seconds = 0.0
        """How long ago a token was issued when it is given out: more than its life, and it is expired."""
        self.answer: tuple[int, dict[str, str], bytes] | None = None
        """Status, headers and body to give instead of a token."""
        self.requests: list[TokenRequest] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    @property
    def url(self) -> str:
        """For `upstream.sasl.token_endpoint`."""
        return f"http://127.0.0.1:{self._server.server_port}/oauth2/token"

    def __enter__(self) -> Self:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                owner._serve(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.may_answer.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"])).decode()
        login = base64.b64decode(handler.headers["Authorization"].removeprefix("Basic ")).decode()
        client_id, client_secret = (unquote_plus(part) for part in login.split(":"))
        form = {name: values[0] for name, values in parse_qs(body).items()}
        self.requests.append(TokenRequest(client_id=client_id, client_secret=client_secret, form=form))
        self.may_answer.wait(30)
        status, headers, content = self.answer or self._token(client_secret)
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    def _token(self, client_secret: str) -> tuple[int, dict[str, str], bytes]:
        if client_secret != CLIENT_SECRET:
            refusal = {"error": "invalid_client", "error_description": f"not the secret: {client_secret}"}
            return 401, {}, json.dumps(refusal).encode()
        token = unsecured_token(self.subject, self.life_seconds, self.age_seconds)
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": self.life_seconds}
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()


def unsecured_token(subject: str, life_seconds: float, age_seconds: float = 0.0) -> str:
    """A token that says who it is for, and is signed by nobody."""
    issued = time.time() - age_seconds
    parts: tuple[dict[str, Any], ...] = ({"alg": "none"}, {"sub": subject, "iat": issued, "exp": issued + life_seconds})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."
