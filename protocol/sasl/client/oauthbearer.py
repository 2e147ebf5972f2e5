"""OAUTHBEARER (RFC 7628): a token that an authorization server gave, with Kafka's extensions (KIP-342)."""

import re
from collections.abc import Mapping
from typing import Final

from kveil.protocol.sasl.client.client import SaslError

_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750, 2.1. A token with anything else in it could end its field early."""
_DONE: Final = b"\x01"
"""RFC 7628, 3.2.3: the client has seen the error, and the server may end the exchange."""


class OAuthBearerClient:
    """One login."""

    mechanism = "OAUTHBEARER"

    def __init__(self, token: bytes, extensions: Mapping[str, str] | None = None) -> None:
        if not _TOKEN.fullmatch(token):
            raise SaslError("the token has characters that no bearer token can have")
        fields = [f"{key}={value}\x01".encode() for key, value in (extensions or {}).items()]
        self._first = b"n,,\x01auth=Bearer " + token + b"\x01" + b"".join(fields) + b"\x01"
        self._refused = False

    def start(self) -> bytes:
        """Return the token in its message."""
        return self._first

    def respond(self, challenge: bytes) -> bytes | None:
        """Take the server's yes, which is empty; answer its error, so that it ends the exchange with a reason.

        :raises SaslError: it goes on after its error.
        """
        if self._refused:
            raise SaslError("the server refused the token, and went on")
        if not challenge:
            return None
        self._refused = True
        return _DONE
