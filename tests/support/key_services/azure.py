"""The part of Managed HSM's REST API that the proxy uses, over HTTPS, with real AES key wrap inside.

The official client signs in as it does on Azure's own machines: its DefaultAzureCredential finds the address of a
managed identity in the environment, and gets tokens there.
"""

import base64
import json
import os
import secrets
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from kveil.proxy.config.key_services import Azure
from kveil.proxy.keys.providers.azure import AzureProvider
from tests.support.certificates import CertificateAuthority

PAGE = 2
"""Versions that are listed at once; the real one has 25."""

Answer = tuple[int, dict[str, Any]]


@dataclass
class Version:
    """One version of a key."""

    name: str = field(default_factory=lambda: secrets.token_hex(16))
    material: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    enabled: bool = True


@dataclass(frozen=True)
class Request:
    """What was asked."""

    method: str
    path: str
    body: bytes
    token: str


class Server:
    """A Managed HSM. `answer` is given instead of its own, `challenge_resource` is what it asks tokens for."""

    takes_context = False
    has_versions = True
    pauses_calls = True

    def __init__(self, folder: Path) -> None:
        authority = CertificateAuthority(folder / "ca")
        certificate = authority.issue("hsm")
        self.ca = authority.path
        self.keys: dict[str, list[Version]] = {}
        self.kinds: dict[str, str] = {}
        self.tokens: set[str] = set()
        self.tokens_given = 0
        self.life_seconds = 3600
        self.gives_tokens = True
        self.requests: list[Request] = []
        self.answer: tuple[int, bytes] | tuple[int, bytes, dict[str, str]] | None = None
        self._paused = False
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        self._hsm = _HttpServer(self._hsm_answers, context, lambda: self._paused)
        self._identity = _HttpServer(self._identity_answers, None, lambda: False)
        self.url = f"https://127.0.0.1:{self._hsm.server_port}"
        # The client asks that the challenge's domain is one above the HSM's.
        self.challenge_resource = f"https://0.0.1:{self._hsm.server_port}"
        self.secret = secrets.token_hex(16)
        self._before = {name: os.environ.get(name) for name in self._environment()}
        os.environ.update(self._environment())

    def _environment(self) -> dict[str, str]:
        return {
            "IDENTITY_ENDPOINT": f"http://127.0.0.1:{self._identity.server_port}/msi/token",
            "IDENTITY_HEADER": self.secret,
            # Without programs of a developer's machine, such as az.
            "AZURE_TOKEN_CREDENTIALS": "prod",
        }

    # An administrator's hands -----------------------------------------------------------------------------------

    def make_key(self, name: str, kind: str = "oct-HSM") -> None:
        self.keys[name] = [Version()]
        self.kinds[name] = kind

    def rotate(self, name: str) -> None:
        self.keys[name].append(Version())

    def disable(self, name: str) -> None:
        for version in self.keys[name]:
            version.enabled = False

    def enable(self, name: str) -> None:
        for version in self.keys[name]:
            version.enabled = True

    def destroy(self, name: str) -> None:
        del self.keys[name]

    def settings(self) -> Azure:
        return Azure(address=self.url, ca=self.ca)

    def provider(self) -> AzureProvider:
        return AzureProvider(self.settings())

    def keys_settings(self) -> dict[str, Any]:
        return {"provider": "azure", "azure": {"address": self.url, "ca": str(self.ca)}}

    def secrets(self) -> list[str]:
        return [self.secret, *self.tokens]

    def pause(self) -> None:
        """Connections are closed as soon as they are made."""
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    def stop(self) -> None:
        self._hsm.stop()
        self._identity.stop()
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

    # The managed identity ---------------------------------------------------------------------------------------

    def _identity_answers(self, handler: BaseHTTPRequestHandler) -> None:
        asked = parse_qs(urlsplit(handler.path).query)
        if not self.gives_tokens or handler.headers["X-IDENTITY-HEADER"] != self.secret:
            _send(handler, 400, {"statusCode": 400, "message": "no identity"})
            return
        self.tokens_given += 1
        token = secrets.token_hex(24)
        self.tokens.add(token)
        given = {"access_token": token, "expires_on": str(int(time.time()) + self.life_seconds), "token_type": "Bearer"}
        _send(handler, 200, {**given, "resource": asked["resource"][0]})

    # The HSM ----------------------------------------------------------------------------------------------------

    def _hsm_answers(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"] or 0))
        token = (handler.headers["Authorization"] or "").removeprefix("Bearer ")
        self.requests.append(Request(handler.command, handler.path, body, token))
        if token not in self.tokens:
            challenge = f'Bearer authorization="https://login.example.net/tenant", resource="{self.challenge_resource}"'
            _send(handler, 401, _error("Unauthorized"), {"WWW-Authenticate": challenge})
        elif self.answer is not None:
            _send(handler, *self.answer)
        else:
            _send(handler, *self._answer(handler.command, urlsplit(handler.path), body))

    def _answer(self, method: str, url: Any, body: bytes) -> Answer:
        match [method, *url.path.strip("/").split("/")]:
            case ["GET", "keys"]:
                return 200, {"value": []}
            case ["GET", "keys", name] if name in self.keys:
                return 200, self._bundle(name, self.keys[name][-1])
            case ["GET", "keys", name, "versions"] if name in self.keys:
                return 200, self._versions(name, int(parse_qs(url.query).get("$skiptoken", ["0"])[0]))
            case ["POST", "keys", name, version, "wrapkey" | "unwrapkey" as operation] if name in self.keys:
                found = [one for one in self.keys[name] if one.name == version]
                return self._operate(name, found[0], operation, json.loads(body)) if found else _not_found(name)
            case ["GET" | "POST", "keys", name, *_]:
                return _not_found(name)
        return 405, _error("MethodNotAllowed")

    def _operate(self, name: str, version: Version, operation: str, body: dict[str, str]) -> Answer:
        if not version.enabled:
            return 403, _error("Forbidden", "KeyDisabled")
        if body["alg"] != "A256KW" or self.kinds[name] != "oct-HSM":
            return 400, _error("BadParameter")
        value = base64.urlsafe_b64decode(body["value"] + "==")
        try:
            done = (aes_key_wrap if operation == "wrapkey" else aes_key_unwrap)(version.material, value)
        except (ValueError, InvalidUnwrap):
            return 400, _error("BadParameter")
        text = base64.urlsafe_b64encode(done).rstrip(b"=").decode()
        return 200, {"kid": self._kid(name, version), "value": text}

    def _bundle(self, name: str, version: Version) -> dict[str, Any]:
        key = {"kid": self._kid(name, version), "kty": self.kinds[name], "key_ops": ["wrapKey", "unwrapKey"]}
        return {"key": key, "attributes": self._attributes(name, version)}

    def _versions(self, name: str, first: int) -> dict[str, Any]:
        # In no order that means something, as the real one has it.
        ordered = sorted(self.keys[name], key=lambda version: version.name)
        found = ordered[first : first + PAGE]
        following = f"{self.url}/keys/{name}/versions?api-version=7.4&$skiptoken={first + PAGE}"
        return {
            "value": [{"kid": self._kid(name, one), "attributes": self._attributes(name, one)} for one in found],
            "nextLink": following if first + PAGE < len(ordered) else None,
        }

    def _attributes(self, name: str, version: Version) -> dict[str, Any]:
        return {"enabled": version.enabled, "created": 1_700_000_000 + self.keys[name].index(version)}

    def _kid(self, name: str, version: Version) -> str:
        return f"{self.url}/keys/{name}/{version.name}"


class _HttpServer(ThreadingHTTPServer):
    """Answers in threads, each connection with TLS if there is a context."""

    def __init__(
        self,
        serve: Callable[[BaseHTTPRequestHandler], None],
        context: ssl.SSLContext | None,
        is_paused: Callable[[], bool],
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                serve(self)

            def do_POST(self) -> None:
                serve(self)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self._context = context
        self._is_paused = is_paused
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return not self._is_paused()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._context is None:
            super().finish_request(request, client_address)
            return
        with self._context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that doesn't trust the certificate, or that went away."""

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


def _send(handler: BaseHTTPRequestHandler, status: int, body: dict | bytes, headers: dict | None = None) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {
        "Content-Type": "application/json; charset=utf-8",
        "Content-Length": str(len(content)),
        **(headers or {}),
    }.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)


def _error(code: str, inner: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"code": code, "message": "in the service's own words"}
    return {"error": {**found, "innererror": {"code": inner}} if inner else found}


def _not_found(name: str) -> Answer:
    return 404, _error("KeyNotFound")
