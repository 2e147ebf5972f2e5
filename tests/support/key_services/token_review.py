"""The part of a Kubernetes API server that tells Vault whose a service account's token is.

with TokenReviewer() as kubernetes:
    jwt = kubernetes.new_token("prod", "kveil")
"""

import base64
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class TokenReviewer:
    """Knows the tokens that it has made, until they are revoked."""

    def __init__(self) -> None:
        self._accounts: dict[str, str] = {}

    @property
    def url(self) -> str:
        """For the auth method's `kubernetes_host`."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def new_token(self, namespace: str, account: str) -> str:
        """A service account's token. Its signature is checked by nobody but us, who know it by heart."""
        now = int(time.time())
        parts: tuple[dict[str, Any], ...] = (
            {"alg": "RS256", "typ": "JWT"},
            {
                "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": account, "uid": account}},
                "sub": f"system:serviceaccount:{namespace}:{account}",
                "iat": now,
                "nbf": now - 60,
                "exp": now + 600,
            },
        )
        encoded = [json.dumps(part).encode() for part in parts] + [secrets.token_bytes(256)]
        token = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in encoded)
        self._accounts[token] = f"{namespace}:{account}"
        return token

    def revoke(self, token: str) -> None:
        """Know it no longer."""
        del self._accounts[token]

    def __enter__(self) -> Self:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = json.dumps(owner._review(body["spec"]["token"])).encode()
                self.send_response(201)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _review(self, token: str) -> dict[str, Any]:
        account = self._accounts.get(token)
        user = {"username": f"system:serviceaccount:{account}", "uid": (account or "").partition(":")[2], "groups": []}
        return {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "status": {"authenticated": account is not None, "user": user},
        }
