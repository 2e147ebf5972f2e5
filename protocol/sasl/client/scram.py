"""SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677): the password isn't sent, and the server proves to know it.

As Kafka's own clients and brokers do it: without channel binding, and without SASLprep, which Kafka leaves out on both
sides (its ScramFormatter.normalize). A client that prepared a password would not match what the broker has stored.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from typing import Final

from kveil.protocol.sasl.client.client import SaslError, check_text

ITERATIONS_LEAST: Final = 4096
"""RFC 7677, 4. With fewer a listener in the middle could try passwords cheaply."""
ITERATIONS_MOST: Final = 200_000
"""Kafka's own most is 16,384. A hostile broker must not buy seconds of our processor with one token."""
_CHALLENGE_BYTES: Final = 4096
_HASHES: Final = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
_GS2_HEADER: Final = "n,,"
"""No channel binding, no other identity."""

_SERVER_FIRST: Final = re.compile(r"r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,8})(?:,.*)?")
_SERVER_FINAL: Final = re.compile(r"v=([A-Za-z0-9+/=]+)(?:,.*)?")


class ScramClient:
    """One login."""

    def __init__(self, mechanism: str, username: bytes, password: bytes, nonce: str | None = None) -> None:
        self.mechanism = mechanism
        self._hash = _HASHES[mechanism]
        self._password = check_text("password", password)
        self._nonce = nonce or secrets.token_urlsafe(24)
        name = check_text("username", username).decode().replace("=", "=3D").replace(",", "=2C")
        self._first = f"n={name},r={self._nonce}"
        self._signature = b""
        self._next: Callable[[str], bytes | None] = self._prove

    def start(self) -> bytes:
        """Return client-first-message."""
        return (_GS2_HEADER + self._first).encode()

    def respond(self, challenge: bytes) -> bytes | None:
        """Answer server-first-message with client-final-message, and check server-final-message.

        The first takes some milliseconds of computing, by the iterations that the server wants.

        :raises SaslError: the server's message is malformed, not for this login, asks for too few or too many
            iterations, or doesn't prove that the server knows the password.
        """
        if len(challenge) > _CHALLENGE_BYTES:
            raise SaslError("the server's SCRAM message is too long")
        try:
            text = challenge.decode()
        except UnicodeDecodeError:
            raise SaslError("the server's SCRAM message is not UTF-8") from None
        return self._next(text)

    def _prove(self, server_first: str) -> bytes:
        nonce, salt, iterations = _read_server_first(server_first)
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise SaslError("the server's SCRAM nonce doesn't continue ours")
        if not ITERATIONS_LEAST <= iterations <= ITERATIONS_MOST:
            raise SaslError(
                f"the server asks for {iterations} iterations: {ITERATIONS_LEAST} to {ITERATIONS_MOST} are safe"
            )
        without_proof = f"c={base64.b64encode(_GS2_HEADER.encode()).decode()},r={nonce}"
        signed = f"{self._first},{server_first},{without_proof}".encode()
        salted = hashlib.pbkdf2_hmac(self._hash, self._password, salt, iterations)
        client_key = self._hmac(salted, b"Client Key")
        stored_key = hashlib.new(self._hash, client_key).digest()
        proof = bytes(a ^ b for a, b in zip(client_key, self._hmac(stored_key, signed), strict=True))
        self._signature = self._hmac(self._hmac(salted, b"Server Key"), signed)
        self._next = self._verify
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def _verify(self, server_final: str) -> None:
        found = _SERVER_FINAL.fullmatch(server_final)
        if not found:
            raise SaslError("the server's last SCRAM message has no signature")
        if not hmac.compare_digest(_base64(found[1]), self._signature):
            raise SaslError(
                "the server's SCRAM signature is wrong: it doesn't know the password, and is not the cluster"
            )
        self._next = _nothing_more

    def _hmac(self, key: bytes, message: bytes) -> bytes:
        return hmac.digest(key, message, self._hash)


def _nothing_more(_: str) -> None:
    raise SaslError("the server goes on after its last SCRAM message")


def _read_server_first(text: str) -> tuple[str, bytes, int]:
    found = _SERVER_FIRST.fullmatch(text)
    if not found:
        # An extension that must be understood comes first, as `m=`: there is none that we know.
        raise SaslError("the server's first SCRAM message is malformed, or wants an extension")
    return found[1], _base64(found[2]), int(found[3])


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise SaslError("the server's SCRAM message has broken base64 in it") from None
