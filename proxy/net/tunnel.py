"""The way to a broker through an HTTP CONNECT or SOCKS5 proxy, which resolves the broker's name."""

import asyncio
import base64
import socket
from typing import Final

from python_socks import ProxyError, ProxyType
from python_socks.async_.asyncio import Proxy

from kveil.proxy.addresses import Endpoint
from kveil.proxy.config import HostPort, Upstream

_HEAD_BYTES: Final = 16 * 1024
"""A proxy's answer is a status line and a few fields."""
_END: Final = b"\r\n\r\n"


class Tunnel:
    """A forward proxy. Its password is read anew for every connection."""

    def __init__(self, upstream: Upstream) -> None:
        assert upstream.proxy is not None
        self._proxy = upstream.proxy
        self._password = upstream.proxy_password

    async def open(self, endpoint: Endpoint) -> socket.socket:
        """Return a socket whose other end is the broker.

        :raises OSError: the proxy can't be reached, or doesn't connect.
        """
        try:
            password = self._password.read().reveal().decode() if self._password else ""
            if self._proxy.scheme == "http":
                return await self._connect(endpoint, password)
            return await self._socks5(endpoint, password)
        except UnicodeError:  # its text would show characters of the password
            raise OSError(f"through {self._proxy}: its user or password has characters that can't be sent") from None
        except ProxyError as error:
            raise OSError(f"{self._proxy} says: {error}") from None
        except (OSError, ValueError) as error:
            raise OSError(f"through {self._proxy}: {error}") from None

    async def _socks5(self, endpoint: Endpoint, password: str) -> socket.socket:
        address, username = self._proxy.address, self._proxy.username
        proxy = Proxy(ProxyType.SOCKS5, address.host, address.port, username, password if username else None, rdns=True)
        return await proxy.connect(endpoint.host, endpoint.port)

    async def _connect(self, endpoint: Endpoint, password: str) -> socket.socket:
        """HTTP CONNECT (RFC 9110, 9.3.6). By ourselves: python-socks takes what the first read gives for the whole
        answer, and the rest of one that comes in two pieces would be read as the broker's.
        """
        sock = await _dial(self._proxy.address)
        try:
            await asyncio.get_running_loop().sock_sendall(sock, self._request(endpoint, password))
            _check(await _read_head(sock))
        except BaseException:
            sock.close()
            raise
        return sock

    def _request(self, endpoint: Endpoint, password: str) -> bytes:
        lines = [f"CONNECT {endpoint} HTTP/1.1", f"Host: {endpoint}"]
        if self._proxy.username is not None:
            login = base64.b64encode(f"{self._proxy.username}:{password}".encode()).decode()
            lines.append(f"Proxy-Authorization: Basic {login}")
        return "\r\n".join([*lines, "", ""]).encode()


async def _dial(address: HostPort) -> socket.socket:
    """Connect to the first of the name's addresses that answers."""
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, kind, protocol, _, place in await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, place)
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):
                raise
            failure = error
        else:
            return sock
    raise failure or OSError("its name has no address")


async def _read_head(sock: socket.socket) -> bytes:
    """Return the answer's head. Nothing may follow: the broker behind it never speaks first."""
    head = b""
    while _END not in head:
        piece = await asyncio.get_running_loop().sock_recv(sock, _HEAD_BYTES)
        if not piece or len(head) > _HEAD_BYTES:
            raise OSError("it didn't answer CONNECT as an HTTP proxy does")
        head += piece
    if not head.endswith(_END):
        raise OSError("it sent more than an answer to CONNECT")
    return head


def _check(head: bytes) -> None:
    line = head.partition(b"\r\n")[0].decode(errors="replace")
    version, _, rest = line.partition(" ")
    if not version.startswith("HTTP/1.") or not rest.startswith("2"):
        raise OSError(f"it answered {line[:100]!r}")
