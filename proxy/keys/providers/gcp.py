"""Provider 4: Google Cloud KMS, by Google's own library over gRPC, an extra.

An address of this host is an emulator: it is spoken to in the clear and without a sign-in, so that no token is ever
sent unprotected. Every other address gets TLS and the application default credentials.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeVar

import google.auth
import grpc
from crc32c import crc32c
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError
from google.cloud import kms_v1
from google.cloud.kms_v1.services.key_management_service.transports import (
    KeyManagementServiceGrpcAsyncIOTransport as _Transport,
)

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import KeyBlock, lp
from kveil.proxy.config.key_services import Gcp
from kveil.proxy.keys.errors import KeyDenied, KeySetupError, KeyUnavailable
from kveil.proxy.keys.flights import Flights
from kveil.proxy.keys.provider import KeyContext, KeyDescription
from kveil.proxy.keys.providers.gcp_answers import DENIED, NOT_SYMMETRIC, SignInFailed, denial, meaning

HOST: Final = "cloudkms.googleapis.com"
CONNECT_SECONDS: Final = 2.0
DRAIN_SECONDS: Final = 5.0
"""How long calls on a connection that is given up may still take."""

# gRPC's own pauses between connection attempts grow to two minutes. A connection to which nothing gets through is given
# up after 5 s (the keepalive's timeout is the one of TCP too), and pings are sent by calls of a minute only: never.
_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 5000),
)

# The library's debug lines show requests, and so what is wrapped.
for _name in ("google.cloud.kms_v1", "google.auth"):
    logging.getLogger(_name).setLevel(logging.INFO)

_KEY_RING: Final = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+")
_State = kms_v1.CryptoKeyVersion.CryptoKeyVersionState
_GONE: Final = frozenset({_State.DESTROYED, _State.DESTROY_SCHEDULED})
T = TypeVar("T")


class GcpProvider:
    """The keys of one key ring."""

    id = registry.GOOGLE_KMS

    def __init__(self, settings: Gcp) -> None:
        """Raises KeySetupError: that can't be a key ring."""
        if not _KEY_RING.fullmatch(settings.key_ring):
            msg = f"keys.gcp.key_ring: {settings.key_ring} isn't written as projects/P/locations/L/keyRings/R"
            raise KeySetupError(msg)
        self._ring = settings.key_ring
        self._endpoint = settings.endpoint
        self._link: _Link | None = None
        self._sign_ins: Flights[None, _Link] = Flights()
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def place(self) -> str:
        """The key ring, and the address where it isn't the usual one."""
        return f"{self._ring} ({self._endpoint})" if self._endpoint else self._ring

    async def wrap(self, name: str, secret: bytes, context: KeyContext) -> KeyBlock:
        """Encrypt under the primary version of the key. Its number is the block's version."""
        bound = _additional_data(context)
        request = kms_v1.EncryptRequest(
            name=self._path(name),
            plaintext=secret,
            plaintext_crc32c=crc32c(secret),
            additional_authenticated_data=bound,
            additional_authenticated_data_crc32c=crc32c(bound),
        )
        answer = await self._ask(lambda client: client.encrypt(request, retry=None, timeout=None), name)
        arrived = answer.verified_plaintext_crc32c and answer.verified_additional_authenticated_data_crc32c
        if not arrived or answer.ciphertext_crc32c != crc32c(answer.ciphertext):
            raise KeyUnavailable(self._damaged)
        return KeyBlock(
            provider=self.id,
            name=name,
            mechanism=registry.SERVICE_AEAD,
            version=_version(answer.name),
            wrapped=answer.ciphertext,
        )

    async def unwrap(self, block: KeyBlock, context: KeyContext) -> bytes:
        """Decrypt under the key of that name. Which version, the wrap says to Google."""
        bound = _additional_data(context)
        request = kms_v1.DecryptRequest(
            name=self._path(block.name),
            ciphertext=block.wrapped,
            ciphertext_crc32c=crc32c(block.wrapped),
            additional_authenticated_data=bound,
            additional_authenticated_data_crc32c=crc32c(bound),
        )
        answer = await self._ask(
            lambda client: client.decrypt(request, retry=None, timeout=None), block.name, opens_for=context.topic
        )
        secret: bytes = answer.plaintext
        if answer.plaintext_crc32c != crc32c(secret):
            raise KeyUnavailable(self._damaged)
        return secret

    async def describe(self, name: str) -> KeyDescription:
        """The numbers of the primary version and of all that aren't destroyed."""
        path = self._path(name)
        key = await self._ask(lambda client: client.get_crypto_key(name=path, retry=None, timeout=None), name)
        if key.purpose != kms_v1.CryptoKey.CryptoKeyPurpose.ENCRYPT_DECRYPT:
            raise denial(self.place, name, NOT_SYMMETRIC)
        if key.primary.state != _State.ENABLED:
            raise denial(self.place, name, DENIED[grpc.StatusCode.FAILED_PRECONDITION])
        found = await self._ask(lambda client: _versions(client, path), name)
        numbers = sorted(int(_version(one.name)) for one in found if one.state not in _GONE)
        return KeyDescription(name=name, primary=_version(key.primary.name), versions=tuple(map(str, numbers)))

    async def health(self) -> None:
        """Ask for the key ring. Being told that this is forbidden, or that it isn't there, is an answer too."""
        try:
            await self._ask(lambda client: client.get_key_ring(name=self._ring, retry=None, timeout=None), "")
        except KeyDenied:
            return

    def refresh(self) -> bool:
        """False: Google is asked each time, and a sign-in that failed is made anew by the next call."""
        return False

    async def close(self) -> None:
        """Ends the connection, and calls on it."""
        self._give_up(0)
        await asyncio.gather(*self._leaving)

    # Calls -------------------------------------------------------------------------------------------------------

    async def _ask(
        self,
        call: Callable[[kms_v1.KeyManagementServiceAsyncClient], Awaitable[T]],
        name: str,
        opens_for: str | None = None,
    ) -> T:
        """One try. `opens_for` is the topic that a wrap, which Google may not take, is to be opened for."""
        try:
            return await call(await self._connected())
        except (GoogleAPICallError, GoogleAuthError) as error:
            meant = meaning(self.place, error, name, opens_for)
            if isinstance(meant, SignInFailed):
                # The file or service that has the credentials may be right by the next try.
                self._give_up(DRAIN_SECONDS)
            raise meant from None

    @property
    def _damaged(self) -> str:
        return f"what went to Google Cloud KMS, {self.place}, or came from there was damaged on the way (CRC32C)"

    def _path(self, name: str) -> str:
        return f"{self._ring}/cryptoKeys/{name}"

    async def _connected(self) -> kms_v1.KeyManagementServiceAsyncClient:
        # A sign-in may take longer than one call may: the next one finds it done, or why it failed.
        link = self._link or await self._sign_ins.join(None, self._sign_in)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await link.channel.channel_ready()
        except TimeoutError:
            msg = f"Google Cloud KMS, {self.place}, can't be reached within {CONNECT_SECONDS:g} s"
            raise KeyUnavailable(msg) from None
        return link.client

    async def _sign_in(self) -> "_Link":
        """Make a channel, which isn't connected yet. Raises GoogleAuthError."""
        if self._endpoint and self._endpoint.is_loopback:
            channel = grpc.aio.insecure_channel(str(self._endpoint), options=_OPTIONS)
        else:
            # It may ask the host's metadata service.
            credentials, _ = await asyncio.to_thread(google.auth.default, default_scopes=_Transport.AUTH_SCOPES)
            address = str(self._endpoint) if self._endpoint else f"{HOST}:443"
            channel = _Transport.create_channel(address, credentials=credentials, options=_OPTIONS)
        client = kms_v1.KeyManagementServiceAsyncClient(transport=_Transport(channel=channel))
        self._link = _Link(client, channel)
        return self._link

    def _give_up(self, seconds: float) -> None:
        """The next call signs in again. Those that are under way may end."""
        link, self._link = self._link, None
        if link is not None:
            task = asyncio.ensure_future(link.channel.close(seconds))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)


class _Link(NamedTuple):
    client: kms_v1.KeyManagementServiceAsyncClient
    channel: grpc.aio.Channel


async def _versions(client: kms_v1.KeyManagementServiceAsyncClient, path: str) -> list[Any]:
    pages = await client.list_crypto_key_versions(parent=path, retry=None, timeout=None)
    return [one async for one in pages]


def _additional_data(context: KeyContext) -> bytes:
    return lp(context.realm.encode()) + lp(context.topic.encode())


def _version(path: str) -> str:
    """The number at the end of a version's name."""
    return path.rpartition("/")[2]
