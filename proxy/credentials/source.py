"""From the configuration to one attempt to log in."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from kveil.protocol.sasl.client import OAuthBearerClient, PlainClient, SaslClient, SaslError, ScramClient
from kveil.proxy.config import Mechanism, PlainText, SecretRef, UpstreamSasl, UpstreamTls
from kveil.proxy.config.checks import client_context
from kveil.proxy.credentials import msk
from kveil.proxy.credentials.refusals import Refusals
from kveil.proxy.credentials.tokens import SharedToken, Token, TokenUnavailable
from kveil.proxy.errors import LoginFailed
from kveil.proxy.secret import REDACTED, Secret

UNPROVEN_ATTEMPTS: Final = 3
"""Logins at a time before one was taken: an application's connections all come at once, and a wrong password
that is tried by all of them locks the account."""
_SHOWN: Final = 300
"""Characters of a broker's message that are worth a log line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Material:
    """What one attempt is made with."""

    parts: tuple[Secret, ...]
    hidden: tuple[Secret, ...]
    """Those that don't stand in the configuration: they are never shown."""
    identity: bytes
    """Stands for the credentials, without telling them: the same until a secret changes."""
    token: Token | None = None


class Attempt:
    """One login, and what becomes of it."""

    def __init__(self, owner: "Credentials", client: SaslClient, material: _Material) -> None:
        self._owner = owner
        self._material = material
        self.client = client

    def accepted(self) -> None:
        """The cluster has taken it."""
        self._owner.note_accepted(self._material.identity)

    def refused(self, message: str) -> LoginFailed:
        """The cluster has not, and will not until something changes. Return what to raise."""
        reason = f"the broker refused the login: {self._shown(message)}"
        self._owner.note_refused(self._material.identity, self._material.token, reason)
        return LoginFailed(reason)

    def _shown(self, message: str) -> str:
        """A broker's words, without the secrets that a hostile one could put into them."""
        for part in self._material.hidden:
            message = message.replace(part.reveal().decode(errors="replace"), REDACTED)
        text = message[:_SHOWN]
        return text if text.isprintable() else repr(text)


class Credentials:
    """The proxy's own, one for the process. `now` is a monotonic clock; `seconds` is for a token endpoint's answer.

    `key` is the key of the configuration where they stand.
    """

    def __init__(
        self, sasl: UpstreamSasl, *, seconds: float, now: Callable[[], float], key: str = "upstream.sasl"
    ) -> None:
        self._sasl = sasl
        self._key = key
        self._now = now
        self._refusals = Refusals()
        self._proven = b""
        self._unproven = asyncio.Semaphore(UNPROVEN_ATTEMPTS)
        self._token = SharedToken(self._token_fetcher(seconds), now)

    @property
    def mechanism(self) -> str:
        """The mechanism's name in the configuration."""
        return self._sasl.mechanism.value

    @property
    def token_expires_at(self) -> float | None:
        """When the bearer token expires, by the clock that was given; None where there is none."""
        return self._token.expires_at

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[Attempt]:
        """Log in once, with the secrets as they are now.

        :raises LoginFailed: a secret or token can't be had, or the cluster has refused it a moment ago.
        """
        material = self._read()
        if material.identity == self._proven:
            yield await self._prepare(material)
            return
        async with self._unproven:
            yield await self._prepare(material)

    async def _prepare(self, material: _Material) -> Attempt:
        why_not = self._refusals.why_not(material.identity, self._now())
        if why_not:
            raise LoginFailed(why_not)
        try:
            if self._sasl.mechanism.has_token:
                token = await self._token.get()
                material = replace(material, hidden=(*material.hidden, token.value), token=token)
            return Attempt(self, self._client(material), material)
        except (SaslError, TokenUnavailable) as error:
            raise LoginFailed(str(error)) from error

    def note_accepted(self, identity: bytes) -> None:
        """These credentials are good."""
        self._proven = identity
        self._refusals.accepted()

    def note_refused(self, identity: bytes, token: Token | None, reason: str) -> None:
        """These are not."""
        if self._proven == identity:
            self._proven = b""
        if token is not None:
            self._token.drop(token)
        self._refusals.refused(identity, reason, self._now())

    # What each mechanism needs -----------------------------------------------------------------------------------

    def _read(self) -> _Material:
        """Read the secrets. Files may have been replaced since the last time."""
        sasl = self._sasl
        if sasl.mechanism is Mechanism.AWS_MSK_IAM:
            return _Material(parts=(), hidden=(), identity=b"aws")
        names = ("client_id", "client_secret") if sasl.mechanism.has_token else ("username", "password")
        refs = [getattr(sasl, name) for name in names]
        parts = tuple(_secret(f"{self._key}.{name}", ref) for name, ref in zip(names, refs, strict=True))
        hidden = tuple(part for part, ref in zip(parts, refs, strict=True) if isinstance(ref, SecretRef))
        digest = hashlib.sha256()
        for part in parts:
            digest.update(hashlib.sha256(part.reveal()).digest())
        return _Material(parts=parts, hidden=hidden, identity=digest.digest())

    def _client(self, material: _Material) -> SaslClient:
        mechanism = self._sasl.mechanism
        if material.token is not None:
            return OAuthBearerClient(material.token.value.reveal(), self._sasl.extensions)
        username, password = (part.reveal() for part in material.parts)
        if mechanism is Mechanism.PLAIN:
            return PlainClient(username, password)
        return ScramClient(mechanism.value, username, password)

    def _token_fetcher(self, seconds: float) -> Callable[[], Awaitable[Token]]:
        sasl = self._sasl
        if sasl.mechanism is Mechanism.AWS_MSK_IAM:
            return partial(msk.fetch_token, sasl.region or "")
        if sasl.mechanism is not Mechanism.OAUTHBEARER or sasl.token_endpoint is None:
            return _no_token
        from kveil.proxy.credentials.token_endpoint import TokenEndpoint  # an HTTP client, which few need

        context = client_context(UpstreamTls(ca=sasl.ca)) if sasl.token_endpoint.startswith("https:") else None
        endpoint = TokenEndpoint(url=sasl.token_endpoint, scope=sasl.scope, context=context, seconds=seconds)

        async def fetch() -> Token:
            client_id, client_secret = self._read().parts
            return await endpoint.fetch(client_id, client_secret)

        return fetch


async def _no_token() -> Token:
    raise TokenUnavailable("the mechanism knows no tokens")


def _secret(key: str, ref: SecretRef | PlainText) -> Secret:
    try:
        return ref.read()
    except ValueError as error:
        raise LoginFailed(f"{key}: {error}") from None
