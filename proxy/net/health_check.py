"""Asking a listener of a running proxy how it is, as a client would: it connects, and asks for ApiVersions.

No login is needed for the answer, and the proxy has it from the cluster: who gets it can work.
"""

import socket
import ssl
import struct
from dataclasses import dataclass
from typing import Final

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.messages import encode_request
from kveil.proxy.config import Listener
from kveil.proxy.config.listener_checks import hosts_of

_ANSWER: Final = struct.Struct(">iih")
"""What every version of the answer begins with: size, correlation id, error code."""

_CLIENT_ID: Final = "kveil-health"
_CLOSED: Final = "closed the connection: the cluster is out of reach, or its `allow` leaves this out"
_NUMBER: Final = 1
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not to bind, but to know what listens there


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What was found at one listener."""

    listener: str
    live: bool
    """Whether connections are taken."""
    ready: bool
    """Whether the cluster's answer came, or a client certificate would have to be shown first."""
    text: str


def check_health(listener: Listener, seconds: float) -> Health:
    """Ask one listener, each step for so long at most."""
    host = hosts_of(listener)[0]
    place = (_LOOPBACK.get(host, host), listener.address.port)
    try:
        sock = socket.create_connection(place, seconds)
    except OSError as error:
        return _health(listener, f"takes no connection: {error.strerror or error}", live=False)
    with sock:
        try:
            return _ask(listener, sock)
        except TimeoutError:
            return _health(listener, f"gave no answer for {seconds:g} s: the cluster may be out of reach")
        except ConnectionError:  # closed with what was asked still unread, which a system may tell so
            return _health(listener, _CLOSED)
        except OSError as error:
            return _health(listener, f"broke the connection off: {error.strerror or error}")


def _ask(listener: Listener, sock: socket.socket) -> Health:
    with _encrypted(sock) if listener.tls is not None else sock as channel:
        if listener.tls is not None and listener.tls.client_ca is not None:
            # There is none to show, so the next that came would be a refusal.
            return _health(listener, "speaks TLS, and asks for a client certificate", ready=True)
        frame = encode_request(ApiKey.API_VERSIONS, 0, _NUMBER, _CLIENT_ID, {})
        channel.sendall(len(frame).to_bytes(4, "big") + frame)
        with channel.makefile("rb") as answers:
            answer = answers.read(_ANSWER.size)
    if len(answer) < _ANSWER.size:
        return _health(listener, _CLOSED)
    _, number, error_code = _ANSWER.unpack(answer)
    if number != _NUMBER or error_code:
        return _health(listener, f"answered with error {error_code}")
    return _health(listener, "answers", ready=True)


def _encrypted(sock: socket.socket) -> ssl.SSLSocket:
    """Return the socket with TLS. The certificate is for other names than this, and nothing secret is sent.

    In TLS 1.3 this ends before the other side has missed a certificate of ours.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock)


def _health(listener: Listener, text: str, *, live: bool = True, ready: bool = False) -> Health:
    return Health(listener=listener.label, live=live, ready=ready, text=text)
