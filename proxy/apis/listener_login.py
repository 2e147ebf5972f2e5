"""SaslHandshake and SaslAuthenticate where the listener itself asks who its clients are: they end here.

What is answered, and that the connection closes after a refusal, is as Kafka's SaslServerAuthenticator has it.
"""

from collections.abc import Sequence

from kveil.protocol.kafka.messages import encode_response
from kveil.protocol.kafka.splice import FrozenShape, Want
from kveil.protocol.sasl.server.errors import LoginRefused
from kveil.proxy.admin.audit import audit
from kveil.proxy.apis.exchange import Answer, Exchange, Outcome
from kveil.proxy.config import SaslMechanism
from kveil.proxy.errors import CloseConnection, ErrorCode
from kveil.proxy.listener_login import ListenerLogin
from kveil.proxy.log import log_limited
from kveil.proxy.needs import Need


class _LoginExchange(Exchange):
    """What both have in common."""

    @property
    def _login(self) -> ListenerLogin:
        login = self.connection.listener_login
        if login is None:
            raise CloseConnection("a login at a listener that asks for none")
        return login

    def _encode(self, **values: object) -> bytes:
        return encode_response(self.header.api_key, self.header.api_version, self.header.correlation_id, values)

    def _log_refusal(self, reason: str) -> None:
        login, connection = self._login, self.connection
        user = login.user if login.user_is_known else None
        log_limited(
            self._tell_refusal,
            "login_refused",
            key=(connection.peer, user, login.mechanism, reason),
            client=connection.peer,
            mechanism=login.mechanism,
            user=user,
            reason=reason,
        )

    def _tell_refusal(self, event: str, **values: object) -> None:
        connection = self.connection
        connection.log.warning(event, **values)
        user = values.pop("user")
        del values["client"]
        audit("login.refused", str(user or "unknown"), connection.cause, **values)


class ListenerHandshake(_LoginExchange):
    """The choice of a mechanism (KIP-43)."""

    REQUEST = FrozenShape({"mechanism": Want.VALUE})

    def request(self) -> Outcome:
        """Take the mechanism, or say which there are."""
        if self.header.api_version == 0:
            raise CloseConnection("SaslHandshake v0, which this listener doesn't serve: use version 1")
        (mechanism,), _ = self.walk_request()
        login = self._login
        error = login.choose(mechanism)
        frame = self._encode(error_code=error or 0, mechanisms=[str(each) for each in login.mechanisms])
        if error is None or login.is_over:
            return Answer(frame=frame)
        self._log_refusal("a mechanism that the listener doesn't offer, or a second handshake")
        return Answer(frame=frame, then_close="")


class ListenerAuthenticate(_LoginExchange):
    """One round of tokens (KIP-152). Sessions don't expire."""

    REQUEST = FrozenShape({"auth_bytes": Want.DATA})

    def request_needs(self) -> Sequence[Need]:
        """Return the check of a password, if there is one to make."""
        (span,), _ = self.walk_request()
        self._token = bytes(self.frame[span[1] : span[2]])
        if self._login.is_over:
            return ()
        try:
            need = self._login.need(self._token)
        except LoginRefused:
            return ()  # refused again by `request`, which can answer
        return () if need is None else (need,)

    def request(self) -> Outcome:
        """Answer the token."""
        login = self._login
        if login.mechanism is None or login.is_over:
            text = "SaslAuthenticate without a SaslHandshake before it"
            frame = self._encode(error_code=ErrorCode.ILLEGAL_SASL_STATE, error_message=text)
            return Answer(frame=frame, then_close=text)
        try:
            answer = login.step(self._token)
        except LoginRefused as error:
            self._log_refusal(str(error))
            frame = self._encode(
                error_code=ErrorCode.SASL_AUTHENTICATION_FAILED, error_message=_refusal_text(login.mechanism)
            )
            return Answer(frame=frame, then_close="")
        if self.connection.is_authenticated:
            self.connection.authenticated(login.user)
            audit("login.granted", login.user, self.connection.cause, mechanism=login.mechanism.value)
        return Answer(frame=self._encode(auth_bytes=answer))


def _refusal_text(mechanism: SaslMechanism) -> str:
    """Brokers' own words, which people search for."""
    if mechanism is SaslMechanism.PLAIN:
        return "Authentication failed: Invalid username or password"
    return f"Authentication failed during authentication due to invalid credentials with SASL mechanism {mechanism}"
