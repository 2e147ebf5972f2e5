"""An authorization server: it gives unsecured tokens, which the test brokers believe, for client credentials.

with TokenServer() as server:
    server.url, server.requests, server.life_seconds = 4
"""

import base64
import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote_plus

from tests.support.local_http import LocalHttp

CLIENT_ID, CLIENT_SECRET = "kveil sidecar", "s3cret:of%the client"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What was asked, and with which login."""

    client_id: str
    client_secret: str
    form: dict[str, str]


class TokenServer(LocalHttp):
    """Answers as its attributes say."""

    def __init__(self, subject: str = "alice") -> None:
        self.subject = subject
        self.life_seconds = 600.0
        self.age_seconds = 0.0
        """How long ago a token was issued when it is given out: more than its life, and it is expired."""
        self.instead: tuple[int, dict[str, str], bytes] | None = None
        """Status, headers and body to give instead of a token."""
        self.requests: list[TokenRequest] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    @property
    def url(self) -> str:
        """For `upstream.sasl.token_endpoint`."""
        return f"{self.address}/oauth2/token"

    def __exit__(self, *_: object) -> None:
        self.may_answer.set()
        super().__exit__()

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Give a token, or what is to be given instead."""
        login = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
        client_id, client_secret = (unquote_plus(part) for part in login.split(":"))
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        self.requests.append(TokenRequest(client_id=client_id, client_secret=client_secret, form=form))
        self.may_answer.wait(30)
        status, headers, content = self.instead or self._token(client_secret)
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)

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
