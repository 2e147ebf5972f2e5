"""SaslHandshake and SaslAuthenticate: they pass untouched, and the connection takes note of where the login stands."""

from collections.abc import Sequence

from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.splice import FrozenShape, Want
from kveil.proxy.apis.exchange import Exchange, Forward, Outcome


class SaslHandshake(Exchange):
    """The choice of a mechanism (KIP-43)."""

    REQUEST = FrozenShape({"mechanism": Want.VALUE})
    RESPONSE = FrozenShape({"error_code": Want.VALUE})

    def request(self) -> Outcome:
        """Take note that a login begins."""
        (mechanism,), _ = self.walk_request()
        self.connection.login.handshake_sent(version=self.header.api_version, mechanism=mechanism)
        return Forward()

    def response(self, frame: memoryview) -> Sequence[Buffer] | None:
        """Take note of the broker's answer."""
        (error_code,), _ = self.response_walker(frame)
        self.connection.login.handshake_answered(error_code)
        return None


class SaslAuthenticate(Exchange):
    """One round of tokens (KIP-152); the last answer tells how long the session lives (KIP-368)."""

    RESPONSE = FrozenShape({"error_code": Want.VALUE, "session_lifetime": Want.VALUE})

    def response(self, frame: memoryview) -> Sequence[Buffer] | None:
        """Take note of the broker's answer."""
        (error_code, lifetime), _ = self.response_walker(frame)
        now = self.connection.shared.now()
        self.connection.login.token_answered(error_code=error_code, session_lifetime_ms=lifetime or 0, now=now)
        return None
