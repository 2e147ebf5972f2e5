"""One bearer token for the whole process: fetched when first needed, renewed before it expires."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from kveil.proxy.keys.flights import Flights
from kveil.proxy.log import get_logger, log_limited
from kveil.proxy.secret import Secret

_log = get_logger(__name__)

RENEWAL: Final = 0.8
"""The part of its life after which a token is renewed: before sessions are, which is at 85 % of theirs."""
RETRY_SECONDS: Final = 5.0
"""After a failure the authorization server is left alone for so long, however many connections want a token."""
PATIENCE_SECONDS: Final = 1.0
"""How long a login waits for a renewal while the old token is still good."""
MARGIN_SECONDS: Final = 1.0
"""A token that expires on its way to the broker would be refused."""


class TokenUnavailable(Exception):
    """No token can be had now. Holds no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token and how long it lives from when it was asked for, in seconds."""

    value: Secret
    life_seconds: float


class SharedToken:
    """The token that all logins use. `fetch` gets a new one; `now` is a monotonic clock, in seconds."""

    def __init__(self, fetch: Callable[[], Awaitable[Token]], now: Callable[[], float]) -> None:
        self._fetch = fetch
        self._now = now
        self._token: Token | None = None
        self._asked_at = 0.0
        self._failure: TokenUnavailable | None = None
        self._retry_at = 0.0
        self._flights: Flights[str, Token] = Flights()

    async def get(self) -> Token:
        """Return a token that is still good.

        :raises TokenUnavailable: there is none.
        """
        token, age = self._token, self._now() - self._asked_at
        if token is None or age >= token.life_seconds - MARGIN_SECONDS:
            return await self._renewed()
        if age >= RENEWAL * token.life_seconds:
            with suppress(TimeoutError, TokenUnavailable):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    return await self._renewed()
        return token

    @property
    def expires_at(self) -> float | None:
        """When the token expires, by the clock that was given; None where there is none."""
        return None if self._token is None else self._asked_at + self._token.life_seconds

    def drop(self, token: Token) -> None:
        """Forget a token that a broker has refused."""
        if self._token is token:
            self._token = None

    async def _renewed(self) -> Token:
        if self._failure is not None and self._now() < self._retry_at:
            raise self._failure
        return await self._flights.join("token", self._renew)

    async def _renew(self) -> Token:
        asked_at = self._now()
        try:
            token = await self._fetch()
        except TokenUnavailable as error:
            self._failure, self._retry_at = error, self._now() + RETRY_SECONDS
            log_limited(_log.warning, "upstream_token_unavailable", reason=str(error))
            raise
        self._token, self._asked_at, self._failure = token, asked_at, None
        return token
