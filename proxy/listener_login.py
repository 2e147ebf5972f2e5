"""A client's login at the listener itself, in Kafka's order: SaslHandshake names the mechanism (KIP-43), then
SaslAuthenticate carries its tokens (KIP-152).

An unknown user and a wrong password look the same to the client: the same rounds, the same work, the same words.
"""

import secrets
from collections.abc import Sequence

from kveil.protocol.sasl.server.errors import LoginRefused
from kveil.protocol.sasl.server.plain import read_plain_token
from kveil.protocol.sasl.server.scram import ScramHash, ScramServer
from kveil.proxy.config import SaslMechanism
from kveil.proxy.errors import ErrorCode
from kveil.proxy.needs import PasswordNeed
from kveil.proxy.secret import Secret
from kveil.proxy.users.users_store import Users

_NONCE_BYTES = 24
_HASHES = {SaslMechanism.SCRAM_SHA_256: ScramHash.SHA_256, SaslMechanism.SCRAM_SHA_512: ScramHash.SHA_512}


class ListenerLogin:
    """One connection's login."""

    def __init__(self, users: Users, mechanisms: Sequence[SaslMechanism]) -> None:
        self._users = users
        self._scram: ScramServer | None = None
        self._scram_rounds = 0
        self._check: PasswordNeed | None = None
        self.mechanisms = tuple(mechanisms)
        self.mechanism: SaslMechanism | None = None
        self.user = ""
        """Who the client says it is, as soon as it has said it."""
        self.is_over = False
        """Whether the client is who it says."""

    @property
    def user_is_known(self) -> bool:
        """Whether the users file has this user: other names may be anything, also a password in the wrong place."""
        return self._users.knows(self.user)

    def choose(self, mechanism: str) -> ErrorCode | None:
        """Take the mechanism of a SaslHandshake, or return why not."""
        if self.mechanism is not None:
            return ErrorCode.ILLEGAL_SASL_STATE
        if mechanism not in self.mechanisms:
            return ErrorCode.UNSUPPORTED_SASL_MECHANISM
        self._users.refresh()
        self.mechanism = SaslMechanism(mechanism)
        hash_name = _HASHES.get(self.mechanism)
        if hash_name is not None:
            nonce = secrets.token_urlsafe(_NONCE_BYTES)
            self._scram = ScramServer(hash_name, lambda name: self._users.credential(name, hash_name), nonce)
        return None

    def need(self, token: bytes) -> PasswordNeed | None:
        """Return the check that a token asks for and that wasn't made yet.

        :raises LoginRefused: it isn't a token of the mechanism.
        """
        if self.mechanism is not SaslMechanism.PLAIN or self._check is not None:
            return None
        self.user, password = read_plain_token(token)
        credential = self._users.credential(self.user, ScramHash.SHA_256)
        self._check = PasswordNeed(credential=credential, password=Secret(password))
        return self._check

    def step(self, token: bytes) -> bytes:
        """Return the answer to a token. `is_over` tells whether it was the last.

        :raises LoginRefused: the client isn't who it says, or doesn't keep to the mechanism.
        """
        if self._scram is None:
            if self.need(token) is not None or self._check is None or not self._check.is_right:
                raise LoginRefused("a wrong name or password")
            self.is_over = True
            return b""
        if self._scram_rounds == 0:
            self._scram_rounds = 1
            try:
                return self._scram.first(token)
            finally:
                self.user = self._scram.user
        answer = self._scram.final(token)
        self.is_over = True
        return answer
