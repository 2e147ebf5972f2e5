"""What every mechanism's client can do."""

from typing import Protocol


class SaslError(Exception):
    """The login can't go on: the server's token is wrong, or what was given to log in with. Holds no secret."""


class SaslClient(Protocol):
    """One login. It is used once."""

    @property
    def mechanism(self) -> str:
        """The mechanism's name, as SaslHandshake has it."""
        ...

    def start(self) -> bytes:
        """Return the first token."""
        ...

    def respond(self, challenge: bytes) -> bytes | None:
        """Return the token that answers the server's; None when the server has said all that it must.

        :raises SaslError: the server's token is wrong.
        """
        ...


def check_text(name: str, value: bytes) -> bytes:
    """`value` if it can be a user's name or password: not empty, UTF-8, without a NUL.

    :raises SaslError: it can't.
    """
    try:
        value.decode()
    except UnicodeDecodeError:
        raise SaslError(f"the {name} is not UTF-8 text") from None
    if not value or b"\0" in value:
        raise SaslError(f"the {name} is empty or has a NUL in it")
    return value
