"""SaslHandshake and SaslAuthenticate.

They pass untouched, and the connection takes note of where the login stands. Where the proxy logs in by itself they
are refused as a broker refuses them on a listener without SASL: offered in ApiVersions, and ILLEGAL_SASL_STATE, which
clients report by name. librdkafka would send bare tokens to a broker that doesn't offer them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kveil.protocol.kafka.messages import encode_response
from kveil.protocol.kafka.primitives import Buffer
from kveil.protocol.kafka.splice import FrozenShape, Want
from kveil.proxy.apis.exchange import Answer, Exchange, Forward, Outcome
from kveil.proxy.errors import ErrorCode
from kveil.proxy.log import log_limited
from kveil.proxy.login import ClientSasl

_REFUSAL = "the proxy logs in to the cluster by itself and asks for no login: set security.protocol to PLAINTEXT"


class SaslHandshake(Exchange):
    """The choice of a mechanism (KIP-43)."""

    REQUEST = FrozenShape({"mechanism": Want.VALUE})
    RESPONSE = FrozenShape({"error_code": Want.VALUE})

    def request(self) -> Outcome:
        """Take note that a login begins."""
        if self.connection.client_sasl is ClientSasl.REFUSED:
            return _refuse(self, {"mechanisms": []})
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

    def request(self) -> Outcome:
        """Leave the token to the broker, if it is for it."""
        if self.connection.client_sasl is ClientSasl.REFUSED:
            return _refuse(self, {"error_message": _REFUSAL, "auth_bytes": b""})
        return Forward()

    def response(self, frame: memoryview) -> Sequence[Buffer] | None:
        """Take note of the broker's answer."""
        (error_code, lifetime), _ = self.response_walker(frame)
        now = self.connection.shared.now()
        self.connection.login.token_answered(error_code=error_code, session_lifetime_ms=lifetime or 0, now=now)
        return None


def _refuse(exchange: Exchange, values: Mapping[str, Any]) -> Answer:
    header, connection = exchange.header, exchange.connection
    log_limited(connection.log.warning, "client_login_refused", key=connection.client, reason=_REFUSAL)
    values = {"error_code": ErrorCode.ILLEGAL_SASL_STATE, **values}
    return Answer(frame=encode_response(header.api_key, header.api_version, header.correlation_id, values))
