"""Tokens of an OAuth 2.0 authorization server, by the client credentials grant (RFC 6749, 4.4)."""

import base64
import json
import ssl
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote_plus

import aiohttp

from kveil.proxy.credentials.tokens import Token, TokenUnavailable
from kveil.proxy.secret import Secret

ANSWER_BYTES: Final = 64 * 1024
"""A token is some kilobytes at most."""
LIFE_SECONDS: Final = 300.0
"""Where the answer doesn't say how long the token lives (RFC 6749, 5.1 only recommends it)."""
_LIFE_MOST_SECONDS: Final = 10.0 * 365 * 24 * 3600
_OK: Final = 200
_SHOWN: Final = 200
"""Characters of the server's own words that are worth a log line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEndpoint:
    """Where to ask, and within how many seconds it must answer."""

    url: str
    scope: str | None
    context: ssl.SSLContext | None
    """None where the endpoint is on this host, without TLS."""
    seconds: float

    async def fetch(self, client_id: Secret, client_secret: Secret) -> Token:
        """Ask for a token.

        :raises TokenUnavailable: the server can't be reached, refuses, or answers something else.
        """
        form = {"grant_type": "client_credentials", **({"scope": self.scope} if self.scope else {})}
        headers = {"Authorization": _basic(client_id, client_secret), "Accept": "application/json"}
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self.seconds)) as session,
                # A redirect would carry the client's secret to another place.
                session.post(
                    self.url, data=form, headers=headers, ssl=self.context or True, allow_redirects=False
                ) as response,
            ):
                status, body = response.status, await _read(response)
        except TimeoutError:
            raise TokenUnavailable(f"{self.url} didn't answer within {self.seconds:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise TokenUnavailable(f"{self.url} can't be used: {error or type(error).__name__}") from None
        answer = _json(body)
        if status != _OK:
            raise TokenUnavailable(self._refusal(status, answer, client_secret))
        return self._token(answer)

    def _token(self, answer: dict[str, Any]) -> Token:
        value, life = answer.get("access_token"), answer.get("expires_in", LIFE_SECONDS)
        if not isinstance(value, str) or not value:
            raise TokenUnavailable(f"{self.url} answered without an access_token")
        if str(answer.get("token_type", "bearer")).lower() != "bearer":
            raise TokenUnavailable(f"{self.url} gives tokens of another type than bearer")
        known = isinstance(life, int | float) and 0 < life <= _LIFE_MOST_SECONDS
        return Token(value=Secret(value.encode()), life_seconds=life if known else LIFE_SECONDS)

    def _refusal(self, status: int, answer: dict[str, Any], client_secret: Secret) -> str:
        said = " ".join(str(answer[key]) for key in ("error", "error_description") if answer.get(key))
        # What a server repeats of the request must not reach the log.
        shown = said.replace(client_secret.reveal().decode(errors="replace"), "...")[:_SHOWN]
        return f"{self.url} answered {status}{f': {shown!r}' if shown else ''}"


def _basic(client_id: Secret, client_secret: Secret) -> str:
    """RFC 6749, 2.3.1: both parts are encoded as in a form before they are joined."""
    parts = (quote_plus(part.reveal()) for part in (client_id, client_secret))
    return "Basic " + base64.b64encode(":".join(parts).encode()).decode()


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_chunked(ANSWER_BYTES):
        body += chunk
        if len(body) > ANSWER_BYTES:
            raise TokenUnavailable(f"{response.url} answered with more than {ANSWER_BYTES} bytes")
    return body


def _json(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}
