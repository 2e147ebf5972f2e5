"""PLAIN (RFC 4616): user and password in one token."""

from kveil.protocol.sasl.client.client import SaslError, check_text


class PlainClient:
    """One login."""

    mechanism = "PLAIN"

    def __init__(self, username: bytes, password: bytes) -> None:
        self._username = check_text("username", username)
        self._password = check_text("password", password)

    def start(self) -> bytes:
        """Return the only token. It asks for no other identity than the user's own."""
        return b"\0" + self._username + b"\0" + self._password

    def respond(self, challenge: bytes) -> None:
        """The server has nothing to say but yes.

        :raises SaslError: it says something.
        """
        if challenge:
            raise SaslError("the server answered PLAIN with a token of its own")
