"""Connecting to brokers: which one, with TLS or without, directly or through a forward proxy."""

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kveil.proxy.addresses import Endpoint
from kveil.proxy.config import Settings, UpstreamSasl
from kveil.proxy.config.checks import client_context
from kveil.proxy.credentials import Credentials
from kveil.proxy.net.leg import Leg
from kveil.proxy.policy import OWN_PRINCIPAL

if TYPE_CHECKING:
    from kveil.proxy.net.tunnel import Tunnel


class _Way(NamedTuple):
    """How brokers are reached."""

    seconds: float
    tls: ssl.SSLContext | None
    tunnel: "Tunnel | None"
    sasl: UpstreamSasl | None
    own_login: UpstreamSasl | None


class Upstream:
    """The cluster's side of the network."""

    def __init__(self, settings: Settings) -> None:
        """Raises OSError or ValueError if a certificate can't be used."""
        self._bootstrap = [Endpoint(address.host, address.port) for address in settings.upstream.bootstrap]
        upstream, seconds = settings.upstream, settings.limits.connect_timeout_seconds
        self.way = _Way(
            seconds,
            None if upstream.tls is None else client_context(upstream.tls),
            None if upstream.proxy is None else _tunnel(settings),
            upstream.sasl,
            upstream.own_login,
        )
        self.own_credentials: Credentials | None = None
        """What the proxy logs in with for itself."""
        if upstream.own_login is not None:
            self.own_credentials = Credentials(
                upstream.own_login, key=f"upstream.{upstream.own_login_key}", seconds=seconds, now=time.monotonic
            )

    def credentials_of(self, principal: str | None) -> Credentials | None:
        """What the proxy logs in with, for a client of this name or for itself; None where the client does."""
        return self.own_credentials if self.way.sasl is not None or principal == OWN_PRINCIPAL else None

    def take_over(self, fresh: "Upstream") -> None:
        """Connect as another one of the same cluster does, from now on. A login that is the same keeps its token."""
        if fresh.way.own_login != self.way.own_login:
            self.own_credentials = fresh.own_credentials
        self.way = fresh.way

    @property
    def bootstrap(self) -> Sequence[Endpoint]:
        """The brokers of the configuration, the one that answered last in front."""
        return tuple(self._bootstrap)

    async def connect(self, candidates: Sequence[Endpoint], make_leg: Callable[[], Leg]) -> tuple[Leg, Endpoint]:
        """Connect to the first of the candidates that answers.

        :raises OSError: none does; ssl.SSLError among them.
        """
        failures = []
        for endpoint in candidates:
            try:
                leg = await self._connect(endpoint, make_leg)
            except (OSError, TimeoutError) as error:
                failures.append(f"{endpoint}: {_describe(error)}")
                continue
            if endpoint in self._bootstrap:
                self._bootstrap.remove(endpoint)
                self._bootstrap.insert(0, endpoint)
            return leg, endpoint
        raise OSError("; ".join(failures))

    async def _connect(self, endpoint: Endpoint, make_leg: Callable[[], Leg]) -> Leg:
        loop, way = asyncio.get_running_loop(), self.way
        name = endpoint.host if way.tls else None
        async with asyncio.timeout(way.seconds):
            if way.tunnel is None:
                _, leg = await loop.create_connection(
                    make_leg, endpoint.host, endpoint.port, ssl=way.tls, server_hostname=name
                )
            else:
                sock = await way.tunnel.open(endpoint)
                _, leg = await loop.create_connection(make_leg, sock=sock, ssl=way.tls, server_hostname=name)
        return leg


def _tunnel(settings: Settings) -> "Tunnel":
    from kveil.proxy.net.tunnel import Tunnel  # a SOCKS client, which few need

    return Tunnel(settings.upstream)


def _describe(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    return str(error) or type(error).__name__
