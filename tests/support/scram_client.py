"""The client's side of SCRAM, written from RFC 5802 for the tests alone."""

import hashlib
import hmac
from base64 import b64decode, b64encode


class ScramClient:
    """One login."""

    def __init__(self, hash_name: str, user: str, password: bytes, nonce: str = "client") -> None:
        self._hash = hash_name
        self._password = password
        self._bare = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={nonce}"
        self._signature = b""

    def first(self) -> bytes:
        """The client-first message."""
        return f"n,,{self._bare}".encode()

    def final(self, server_first: bytes) -> bytes:
        """The client-final message."""
        nonce, salt, iterations = (part[2:] for part in server_first.decode().split(","))
        salted = hashlib.pbkdf2_hmac(self._hash, self._password, b64decode(salt), int(iterations))
        client_key = hmac.digest(salted, b"Client Key", self._hash)
        without_proof = f"c=biws,r={nonce}"
        message = f"{self._bare},{server_first.decode()},{without_proof}".encode()
        stored_key = hashlib.new(self._hash, client_key).digest()
        proof = bytes(a ^ b for a, b in zip(client_key, hmac.digest(stored_key, message, self._hash), strict=True))
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", self._hash), message, self._hash)
        return f"{without_proof},p={b64encode(proof).decode()}".encode()

    def check(self, server_final: bytes) -> None:
        """The server has proved that it knows the password's keys."""
        assert server_final == b"v=" + b64encode(self._signature)
