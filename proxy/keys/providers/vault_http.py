"""Requests to Vault's HTTP API. What comes back is bounded, is Vault's own, and came from where it was asked for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from kveil.proxy.config import UpstreamTls
from kveil.proxy.config.checks import client_context
from kveil.proxy.config.key_services import Vault
from kveil.proxy.keys.errors import KeySetupError, KeyUnavailable
from kveil.proxy.secret import REDACTED, Secret

ANSWER_BYTES: Final = 1024 * 1024
"""A key's description has some 20 bytes for each of its versions; all else is a kilobyte or two."""
DEADLINE_SECONDS: Final = 30.0
"""Ends what nobody waits for any more. Those who wait have a shorter one (`keys.call_timeout_seconds`)."""
_SHOWN: Final = 200
"""Characters of the server's own words that are worth a log line."""
_NO_SECRETS: Final = frozenset({"role", "type"})

OK: Final = frozenset({200, 204})
BAD_REQUEST, FORBIDDEN, NOT_FOUND = 400, 403, 404
_REDIRECTS: Final = range(300, 400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What Vault says of a request: it is done, or one of 400, 403, 404 with its reason."""

    status: int
    body: dict[str, Any]
    words: str
    """The reason, with nothing in it of what was sent. Empty if it is done."""

    @property
    def is_ok(self) -> bool:
        """Whether it is done."""
        return self.status in OK

    def part(self, name: str) -> dict[str, Any]:
        """A map in the body, empty if there is none of that name."""
        found = self.body.get(name)
        return found if isinstance(found, dict) else {}


class VaultHttp:
    """The connections to one server, made when they are needed."""

    def __init__(self, settings: Vault) -> None:
        """Raises KeySetupError if the CA's file can't be used."""
        self.place = settings.address
        self._headers = {"X-Vault-Request": "true", "Accept-Encoding": "identity"}
        if settings.namespace:
            self._headers["X-Vault-Namespace"] = settings.namespace
        try:
            self._context = client_context(UpstreamTls(ca=settings.ca))
        except OSError:
            msg = f"keys.vault.ca: {settings.ca} holds no usable PEM certificate"
            raise KeySetupError(msg) from None
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, method: str, path: str, token: Secret | None, body: Mapping[str, str] | None = None) -> Answer:
        """Send one request. `path` is below /v1/ and quoted already.

        :raises KeyUnavailable: there is no answer, or one that says nothing of the request.
        """
        headers = {"X-Vault-Token": token.reveal().decode()} if token else {}
        hidden = [*headers.values(), *(value for name, value in (body or {}).items() if name not in _NO_SECRETS)]
        try:
            async with self._connections().request(
                method,
                f"{self.place}/v1/{path}",
                json=body,
                headers=headers,
                # A redirect would carry the token to another place.
                allow_redirects=False,
            ) as response:
                return self._answer(response.status, await self._read(response), hidden)
        except TimeoutError:
            raise self._unusable(f"didn't answer within {DEADLINE_SECONDS:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._unusable(f"can't be used: {_shown(str(error) or type(error).__name__, hidden)}") from None

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._context),
                timeout=aiohttp.ClientTimeout(total=DEADLINE_SECONDS),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # what is bounded is what is read
            )
        return self._session

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        content = bytearray()
        async for chunk in response.content.iter_any():
            content += chunk
            if len(content) > ANSWER_BYTES:
                raise self._unusable(f"answered with more than {ANSWER_BYTES} bytes")
        return bytes(content)

    def _answer(self, status: int, content: bytes, hidden: list[str]) -> Answer:
        body = _json(content)
        errors = body.get("errors") if body else None
        words = _shown("; ".join(map(str, errors)), hidden) if isinstance(errors, list) else None
        if status in OK and (body is not None or not content):
            return Answer(status=status, body=body or {}, words="")
        # Of these reasons much follows, so they must be Vault's and not those of something in between.
        if status in {BAD_REQUEST, FORBIDDEN, NOT_FOUND} and words is not None:
            return Answer(status=status, body={}, words=words)
        if status in _REDIRECTS:
            raise self._unusable(f"answered {status}, which leads elsewhere: keys.vault.address must name that place")
        if status in OK or words is None:
            raise self._unusable(f"answered {status} with something that isn't Vault's")
        raise self._unusable(f"answered {status}: {words}")

    def _unusable(self, what: str) -> KeyUnavailable:
        return KeyUnavailable(f"Vault at {self.place} {what}")


def _json(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _shown(words: str, hidden: list[str]) -> str:
    """Somebody's words on one line, without the secrets that they may repeat."""
    for secret in hidden:
        if secret:
            words = words.replace(secret, REDACTED)
    text = " ".join(words.split())[:_SHOWN]
    return text if text.isprintable() else repr(text)
