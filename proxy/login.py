"""Where a client's login stands, as far as the proxy must know it.

SASL passes through untouched (KIP-43, KIP-152, KIP-368). The proxy must know two things of it: whether the next
frame is a token without a Kafka header, which follows SaslHandshake v0 alone, and when it may put a question of its
own between the client's requests. Any doubt closes the connection, since a connection on which the proxy loses
count would carry records unsealed afterwards.
"""

from enum import Enum

from kveil.proxy.config import Upstream
from kveil.proxy.errors import CloseConnection

MAX_TOKEN_BYTES = 512 * 1024
"""Kafka's own limit for what a server reads before login (sasl.server.max.receive.size)."""

_ROUNDS = {"PLAIN": 1, "SCRAM-SHA-256": 2, "SCRAM-SHA-512": 2, "OAUTHBEARER": 1}
"""Tokens that the client sends. A failed OAUTHBEARER takes one more (RFC 7628, 3.2.3)."""


class ClientSasl(Enum):
    """What becomes of the SASL frames of a client."""

    PASSED = "passed"
    """The broker answers: the client logs in to the cluster by itself."""
    REFUSED = "refused"
    """The proxy logs in to the cluster by itself, and asks its clients for no login."""


def client_sasl(upstream: Upstream) -> ClientSasl:
    """Decide who answers a client's SASL frames."""
    return ClientSasl.PASSED if upstream.sasl is None else ClientSasl.REFUSED


class Login:
    """One connection's login, first or repeated."""

    def __init__(self) -> None:
        self._mechanism: str | None = None
        self._rounds_left = 0
        self._raw = False
        self._token_in_flight = False
        self._handshake_in_flight = False
        self._expires_at: float | None = None

    def may_ask(self, now: float) -> bool:
        """Whether a question of the proxy's own may go upstream now. `now` is monotonic, in seconds."""
        return not self.in_progress and (self._expires_at is None or now < self._expires_at)

    @property
    def in_progress(self) -> bool:
        """Whether a login has begun and not ended."""
        return self._handshake_in_flight or self._rounds_left > 0

    @property
    def expects_raw_token(self) -> bool:
        """Whether the client's next frame is a token without a header."""
        return self._raw and self.in_progress

    def handshake_sent(self, *, version: int, mechanism: str) -> None:
        """The client sent SaslHandshake.

        :raises CloseConnection: version 0 with a mechanism whose tokens can't be counted.
        """
        if version == 0 and mechanism not in _ROUNDS:
            raise CloseConnection(f"SaslHandshake v0 with {mechanism!r}, whose tokens can't be counted: use version 1")
        self._mechanism = mechanism
        self._raw = version == 0
        self._handshake_in_flight = True
        self._rounds_left = 0

    def handshake_answered(self, error_code: int) -> None:
        """The broker answered SaslHandshake."""
        self._handshake_in_flight = False
        self._rounds_left = 0 if error_code else _ROUNDS.get(self._mechanism or "", 1)

    def raw_token_sent(self, size: int) -> None:
        """The client sent a token without a header.

        :raises CloseConnection: it isn't its turn, or the token is too large.
        """
        if self._handshake_in_flight or self._token_in_flight:
            raise CloseConnection("a SASL token came before the last one was answered")
        if size > MAX_TOKEN_BYTES:
            raise CloseConnection(f"a SASL token of {size} bytes is over the limit of {MAX_TOKEN_BYTES}")
        self._token_in_flight = True

    def raw_token_answered(self, size: int) -> None:
        """The broker answered such a token."""
        self._token_in_flight = False
        self._rounds_left -= 1
        if self._rounds_left == 0 and self._mechanism == "OAUTHBEARER" and size:
            self._mechanism = None  # a failure: the client sends one more token, and the broker ends it
            self._rounds_left = 1

    def token_answered(self, *, error_code: int, session_lifetime_ms: int, now: float) -> None:
        """The broker answered SaslAuthenticate. `session_lifetime_ms` is 0 where sessions don't expire."""
        self._rounds_left = 0 if error_code else max(0, self._rounds_left - 1)
        if not error_code and self._rounds_left == 0:
            self._expires_at = now + session_lifetime_ms / 1000 if session_lifetime_ms else None

    def ordinary_request_sent(self) -> None:
        """The client sent a request other than a login's: it holds the login to be over.

        :raises CloseConnection: in the middle of a handshake or of tokens without headers.
        """
        if self._handshake_in_flight or (self._raw and self._rounds_left):
            raise CloseConnection("a request came in the middle of a login")
        self._rounds_left = 0
