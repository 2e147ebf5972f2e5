"""The way to one broker, step by step: its name, its addresses, TLS, and that what answers there is Kafka."""

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.errors import ProtocolError
from kveil.protocol.kafka.messages import decode_response, encode_request
from kveil.proxy.addresses import Endpoint
from kveil.proxy.admin.certificates import Certificate, read_certificate
from kveil.proxy.config import Settings
from kveil.proxy.config.checks import client_context

STEP_SECONDS: Final = 4.0
"""For one connection, handshake or answer: a broker that takes longer makes clients give up, too."""
_CLIENT_ID: Final = "kveil-doctor"
_MOST_BYTES: Final = 1024 * 1024
"""An answer to ApiVersions has some hundred bytes."""

Versions = Mapping[int, tuple[int, int]]
"""Lowest and highest version of each API."""


@dataclass(slots=True, kw_only=True)
class Reached:
    """How far it went. A later step is only tried if the one before it went well."""

    endpoint: Endpoint
    addresses: Sequence[str] = ()
    name_error: str | None = None
    closed: dict[str, str] = field(default_factory=dict)
    """The addresses that take no connection, and why."""
    tls_version: str | None = None
    chain: Sequence[Certificate] = ()
    """What the broker showed, its own certificate first."""
    tls_error: ssl.SSLError | OSError | TimeoutError | None = None
    versions: Versions | None = None
    answer_error: str | None = None
    speaks_tls: bool = False
    """It wasn't asked for, and it is what the broker speaks."""

    @property
    def is_open(self) -> bool:
        """Whether a connection was taken."""
        return self.name_error is None and len(self.closed) < max(1, len(self.addresses))

    @property
    def is_well(self) -> bool:
        """Whether a Kafka broker answered."""
        return self.versions is not None


async def reach(endpoint: Endpoint, settings: Settings) -> Reached:
    """Go to one broker. Nothing secret is sent."""
    found = Reached(endpoint=endpoint)
    if settings.upstream.proxy is None:
        await _resolve(found)
        await asyncio.gather(*(_knock(found, address) for address in found.addresses))
    if found.is_open:
        await _talk(found, settings)
    return found


async def _resolve(found: Reached) -> None:
    host, port = found.endpoint
    try:
        async with asyncio.timeout(STEP_SECONDS):
            rows = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        found.name_error = f"no answer within {STEP_SECONDS:g} s"
    except OSError as error:
        found.name_error = error.strerror or str(error)
    else:
        found.addresses = list(dict.fromkeys(str(row[4][0]) for row in rows))


async def _knock(found: Reached, address: str) -> None:
    try:
        async with asyncio.timeout(STEP_SECONDS):
            _, writer = await asyncio.open_connection(address, found.endpoint.port)
    except TimeoutError:
        found.closed[address] = f"no answer within {STEP_SECONDS:g} s"
    except OSError as error:
        found.closed[address] = describe(error)
    else:
        writer.transport.abort()


async def _talk(found: Reached, settings: Settings) -> None:
    tls = settings.upstream.tls
    try:
        sock = await _open(found, settings)
    except (OSError, TimeoutError) as error:
        found.closed[str(settings.upstream.proxy or found.endpoint)] = describe(error)
        found.answer_error = describe(error)
        return
    try:
        reader, writer = await _converse(sock, None if tls is None else client_context(tls), found.endpoint.host)
    except (OSError, TimeoutError) as error:
        sock.close()
        found.tls_error = error
        if isinstance(error, ssl.SSLCertVerificationError):
            await _look_unverified(found, settings)
        return
    try:
        shown = writer.get_extra_info("ssl_object")
        if shown is not None:
            found.tls_version, found.chain = shown.version(), _chain(shown)
        await _ask(found, reader, writer)
    finally:
        writer.transport.abort()
    if tls is None and not found.is_well:
        await _look_unverified(found, settings)
        found.speaks_tls = found.tls_version is not None


async def _open(found: Reached, settings: Settings) -> socket.socket:
    """Return a socket whose other end is the broker."""
    async with asyncio.timeout(STEP_SECONDS):
        if settings.upstream.proxy is not None:
            from kveil.proxy.net.tunnel import Tunnel  # a SOCKS client, which few need

            return await Tunnel(settings.upstream).open(found.endpoint)
        address = next(address for address in found.addresses if address not in found.closed)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (address, found.endpoint.port))
        except BaseException:
            sock.close()
            raise
        return sock


async def _converse(
    sock: socket.socket, context: ssl.SSLContext | None, host: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    name = host if context else None
    async with asyncio.timeout(STEP_SECONDS):
        return await asyncio.open_connection(sock=sock, ssl=context, server_hostname=name, limit=_MOST_BYTES)


async def _look_unverified(found: Reached, settings: Settings) -> None:
    """See what the broker shows to whoever asks, where it is not trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        sock = await _open(found, settings)
    except (OSError, TimeoutError):
        return
    try:
        _, writer = await _converse(sock, context, found.endpoint.host)
    except (OSError, TimeoutError):
        sock.close()
        return
    shown = writer.get_extra_info("ssl_object")
    found.tls_version, found.chain = shown.version(), _chain(shown)
    writer.transport.abort()


def _chain(shown: ssl.SSLObject) -> Sequence[Certificate]:
    """Return the certificates of a handshake; before Python 3.13 the broker's own alone."""
    give = getattr(shown, "get_unverified_chain", None)
    own = shown.getpeercert(binary_form=True)
    encoded = give() if give is not None else [own] if own else []
    try:
        return [read_certificate(bytes(one)) for one in encoded]
    except (ValueError, IndexError):
        return ()


async def _ask(found: Reached, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ask what it speaks, which takes no login."""
    frame = encode_request(ApiKey.API_VERSIONS, 0, 0, _CLIENT_ID, {})
    try:
        async with asyncio.timeout(STEP_SECONDS):
            writer.write(len(frame).to_bytes(4, "big") + frame)
            size = int.from_bytes(await reader.readexactly(4), "big")
            if size > _MOST_BYTES:
                found.answer_error = "what answers there is no Kafka broker"
                return
            answer = decode_response(ApiKey.API_VERSIONS, 0, memoryview(await reader.readexactly(size)))
    except TimeoutError:
        found.answer_error = f"it didn't answer within {STEP_SECONDS:g} s"
    except asyncio.IncompleteReadError:
        found.answer_error = "it closed the connection instead of answering"
    except OSError as error:
        found.answer_error = describe(error)
    except ProtocolError:
        found.answer_error = "what answers there is no Kafka broker"
    else:
        found.versions = {row.api_key: (row.min_version, row.max_version) for row in answer.api_keys}


def describe(error: OSError | TimeoutError) -> str:
    """Say what the system or OpenSSL said."""
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    if isinstance(error, TimeoutError) and not error.strerror:
        return f"no answer within {STEP_SECONDS:g} s"
    return error.strerror or str(error) or type(error).__name__
