"""PLAIN (RFC 4616): one token with name and password."""

from typing import NamedTuple

from kveil.protocol.sasl.server.errors import LoginRefused


class PlainToken(NamedTuple):
    """What the client sent."""

    user: str
    password: bytes


def read_plain_token(token: bytes) -> PlainToken:
    """Read `[authzid] NUL authcid NUL passwd`.

    :raises LoginRefused: it has another form, or wants to act as somebody else.
    """
    parts = token.split(b"\0")
    if len(parts) != 3:
        raise LoginRefused(f"a PLAIN token of {len(parts)} parts instead of 3")
    acts_as, name, password = parts
    if not name or not password:
        raise LoginRefused("a PLAIN token without a name or a password")
    if acts_as not in (b"", name):
        raise LoginRefused("a PLAIN token of one user who wants to act as another")
    try:
        return PlainToken(str(name, "utf-8"), password)
    except UnicodeDecodeError:
        raise LoginRefused("a PLAIN token whose name is not UTF-8") from None
