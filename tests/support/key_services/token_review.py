"""The part of a Kubernetes API server that tells Vault whose a service account's token is.

with TokenReviewer() as kubernetes:
    jwt = kubernetes.new_token("prod", "kveil")
"""

import base64
import json
import secrets
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.local_http import LocalHttp


class TokenReviewer(LocalHttp):
    """Knows the tokens that it has made, until they are revoked."""

    def __init__(self) -> None:
        self._accounts: dict[str, str] = {}

    @property
    def url(self) -> str:
        """For the auth method's `kubernetes_host`."""
        return self.address

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

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Say whose the token is."""
        answer = json.dumps(self._review(json.loads(body)["spec"]["token"])).encode()
        request.send_response(201)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)

    def _review(self, token: str) -> dict[str, Any]:
        account = self._accounts.get(token)
        user = {"username": f"system:serviceaccount:{account}", "uid": (account or "").partition(":")[2], "groups": []}
        return {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "status": {"authenticated": account is not None, "user": user},
        }
