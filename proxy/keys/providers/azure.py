"""Provider 5: symmetric keys (oct-HSM) in Azure Managed HSM, wrapped with as RFC 3394 has it (A256KW there).

RSA keys of Key Vault are refused: their public half is there for everyone, so anyone could make a wrap that looks like
ours, and readers would open what a broker made up.

The official client signs in, checks that the service's challenge is of its own domain, and sends; the few requests are
made here, so that nothing is computed locally and nothing is tried twice (`calls.py` does).
"""

import base64
import re
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.core.rest import HttpRequest
from azure.identity.aio import DefaultAzureCredential
from azure.keyvault.keys.aio import KeyClient

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_schedule import EPOCH_KEY_LENGTH
from kveil.proxy.config.key_services import Azure
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeySetupError, KeyUnavailable
from kveil.proxy.keys.provider import KeyContext, KeyDescription
from kveil.proxy.keys.providers import azure_answers as answers

ALGORITHM: Final = "A256KW"
KEY_TYPE: Final = "oct-HSM"
WRAPPED_LENGTH: Final = EPOCH_KEY_LENGTH + 8
MAX_PAGES: Final = 100
"""Of a key's versions, 25 each. A service that goes on for ever is broken."""
_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,127}")
_DENIED: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})


class AzureProvider:
    """The keys of one Managed HSM."""

    id = registry.AZURE_KEY_VAULT

    def __init__(self, settings: Azure) -> None:
        """Connects to nothing. Raises KeySetupError."""
        parts = urlsplit(settings.address)
        if parts.scheme != "https" or parts.path:
            msg = f"keys.azure.address {settings.address} must be as in https://NAME.managedhsm.azure.net"
            raise KeySetupError(msg)
        self._address = settings.address
        self._verify = True if settings.ca is None else str(settings.ca)
        self._client: KeyClient | None = None
        self._credential: DefaultAzureCredential | None = None

    @property
    def place(self) -> str:
        """The HSM's address."""
        return self._address

    # Key wrap takes no further data, so the context goes unused: the kid tells.
    async def wrap(self, name: str, secret: bytes, context: KeyContext) -> KeyBlock:  # noqa: ARG002
        """Wrap under the latest version."""
        version = answers.version_in(self._usable(name, await self._latest(name)))
        status, answer = await self._operate(name, version, "wrapkey", secret)
        if status != HTTPStatus.OK:
            raise KeyDenied(self._why_denied(name, status, answer))
        return KeyBlock(
            provider=self.id,
            name=name,
            mechanism=registry.AES_KEY_WRAP,
            version=answers.version_in(answer),
            wrapped=answers.bytes_in(answer, WRAPPED_LENGTH),
        )

    async def unwrap(self, block: KeyBlock, context: KeyContext) -> bytes:  # noqa: ARG002
        """Unwrap under the version that the block names, at the configured address."""
        # The envelope is anybody's: nothing of it gets into a URL but a name from the rules and 32 hex digits.
        if not answers.VERSION.fullmatch(block.version):
            msg = f"the wrap of key {block.name!r} names {block.version!r}, which is no version of an Azure key"
            raise KeyRefused(msg)
        if block.mechanism != registry.AES_KEY_WRAP or len(block.wrapped) != WRAPPED_LENGTH:
            msg = f"the wrap of key {block.name!r} isn't one that Azure Managed HSM makes of an epoch key"
            raise KeyRefused(msg)
        status, answer = await self._operate(block.name, block.version, "unwrapkey", block.wrapped)
        if status == HTTPStatus.BAD_REQUEST:
            msg = f"{self.place}: the wrap does not open under key {block.name!r}, version {block.version}"
            raise KeyRefused(msg)
        if status == HTTPStatus.NOT_FOUND:
            await self._latest(block.name)  # raises KeyDenied if it is the key that isn't there
            msg = f"{self.place}: key {block.name!r} has no version {block.version}"
            raise KeyRefused(msg)
        if status != HTTPStatus.OK:
            raise KeyDenied(self._why_denied(block.name, status, answer))
        return answers.bytes_in(answer, EPOCH_KEY_LENGTH)

    async def describe(self, name: str) -> KeyDescription:
        """The key's versions, as far as the HSM lists them."""
        primary = answers.version_in(self._usable(name, await self._latest(name)))
        found: list[tuple[int, str]] = []
        path = f"/keys/{name}/versions"
        for _ in range(MAX_PAGES):
            status, answer = await self._ask("GET", path)
            if status != HTTPStatus.OK:
                raise KeyDenied(self._why_denied(name, status, answer))
            found += [(answers.created_at(one), answers.version_in(one)) for one in answer.get("value") or ()]
            following = answer.get("nextLink")
            if not following:
                break
            path = self._own_path(following)
        older = [version for _, version in sorted(found) if version != primary]
        return KeyDescription(name=name, primary=primary, versions=(*older, primary))

    async def health(self) -> None:
        """Raises KeyUnavailable if the HSM doesn't answer or doesn't know who asks. It may refuse this question."""
        await self._ask("GET", "/keys?maxresults=1")

    def refresh(self) -> bool:
        """Nothing is kept here that could have changed."""
        return False

    async def close(self) -> None:
        """Closes connections."""
        client, credential = self._client, self._credential
        self._client = self._credential = None
        if client is not None:
            await client.close()
        if credential is not None:
            await credential.close()

    async def _latest(self, name: str) -> dict[str, Any]:
        """What the HSM tells of the latest version. Raises KeyDenied or KeyUnavailable."""
        status, answer = await self._ask("GET", f"/keys/{self._checked(name)}")
        if status != HTTPStatus.OK:
            raise KeyDenied(self._why_denied(name, status, answer))
        return answer

    def _usable(self, name: str, answer: dict[str, Any]) -> dict[str, Any]:
        """The key itself. Raises KeyDenied if it is of another kind, or disabled."""
        key = answer.get("key")
        kind = key.get("kty") if isinstance(key, dict) else None
        if kind != KEY_TYPE:
            msg = (
                f"{self.place}: key {name!r} is no {KEY_TYPE} key. Anyone could make a wrap with the public half of an "
                f"RSA key: make one in a Managed HSM with az keyvault key create --kty {KEY_TYPE} --size 256"
            )
            raise KeyDenied(msg)
        if not (answer.get("attributes") or {}).get("enabled"):
            msg = f"{self.place}: the latest version of key {name!r} is disabled"
            raise KeyDenied(msg)
        assert isinstance(key, dict)
        return key

    async def _operate(self, name: str, version: str, operation: str, value: bytes) -> tuple[int, dict[str, Any]]:
        text = base64.urlsafe_b64encode(value).rstrip(b"=").decode()
        path = f"/keys/{self._checked(name)}/{version}/{operation}"
        return await self._ask("POST", path, {"alg": ALGORITHM, "value": text})

    async def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """One request: 200, or a status of `_DENIED`, and the answer. Raises KeyUnavailable for all else."""
        client = self._opened()
        try:
            response = await client.send_request(HttpRequest(method, path, json=body))
        except ClientAuthenticationError:
            # Its text lists every way that was tried, at length; azure.identity logs it.
            msg = (
                f"{self.place}: DefaultAzureCredential found no sign-in that works: give this host a managed or "
                "workload identity, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"
            )
            raise KeyUnavailable(msg) from None
        except HttpResponseError as error:
            msg = f"{self.place} answered {error.status_code}, not as a Managed HSM does: look at keys.azure.address"
            raise KeyUnavailable(msg) from None
        except AzureError as error:
            msg = f"{self.place} can't be reached: {type(error.inner_exception or error).__name__}"
            raise KeyUnavailable(msg) from None
        except ValueError:
            msg = f"{self.place} asks for a sign-in of another domain than its own, so no token was sent there"
            raise KeyUnavailable(msg) from None
        answer, status = answers.json_of(response), response.status_code
        if answer is None or (status != HTTPStatus.OK and status not in _DENIED):
            why = ": it doesn't accept this sign-in" if status == HTTPStatus.UNAUTHORIZED else ""
            msg = f"{self.place} answered {status}{answers.codes_in(answer)}{why}"
            raise KeyUnavailable(msg)
        return status, answer

    def _opened(self) -> KeyClient:
        """The client, made at the first call: inside the event loop, after the last fork. Raises KeyUnavailable."""
        if self._client is None:
            try:
                self._credential = DefaultAzureCredential(retry_total=0)
            except (ValueError, OSError) as error:
                msg = (
                    f"{self.place}: DefaultAzureCredential can't use its settings ({type(error).__name__}): look "
                    "at the variables that begin with AZURE_, and at the files that they name"
                )
                raise KeyUnavailable(msg) from None
            self._client = KeyClient(
                self._address,
                self._credential,
                retry_total=0,
                permit_redirects=False,
                connection_verify=self._verify,
            )
        return self._client

    def _checked(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            msg = f"{self.place} can have no key {name!r}: names there have letters, digits and hyphens, at most 127"
            raise KeyDenied(msg)
        return name

    def _own_path(self, link: object) -> str:
        if not isinstance(link, str) or not link.startswith(f"{self._address}/"):
            msg = f"{self.place} sent a link to somewhere else"
            raise KeyUnavailable(msg)
        return link.removeprefix(self._address)

    def _why_denied(self, name: str, status: int, answer: dict[str, Any]) -> str:
        why = {
            HTTPStatus.FORBIDDEN: "it is disabled, or this identity may not use it (role Managed HSM Crypto Service "
            "Encryption User)",
            HTTPStatus.NOT_FOUND: "it isn't there: make it, but one that was deleted must be recovered",
        }.get(HTTPStatus(status), "the HSM doesn't take it")
        return f"{self.place}: key {name!r} can't be used, {why}: {status}{answers.codes_in(answer)}"
