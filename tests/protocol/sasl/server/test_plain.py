"""PLAIN: a name and a password, or a refusal."""

import pytest

from kveil.protocol.sasl.server.errors import LoginRefused
from kveil.protocol.sasl.server.plain import PlainToken, read_plain_token


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (b"\0alice\0secret", PlainToken("alice", b"secret")),
        (b"alice\0alice\0secret", PlainToken("alice", b"secret")),
        ("\0zoë\0pässword".encode(), PlainToken("zoë", "pässword".encode())),
        (b"\0alice\0\xff\xfe", PlainToken("alice", b"\xff\xfe")),
    ],
)
def test_a_token(token, expected):
    assert read_plain_token(token) == expected


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (b"", "1 parts"),
        (b"alice\0secret", "2 parts"),
        (b"\0alice\0sec\0ret", "4 parts"),
        (b"\0\0secret", "without a name"),
        (b"\0alice\0", "without a name or a password"),
        (b"bob\0alice\0secret", "act as another"),
        (b"\0\xff\0secret", "not UTF-8"),
    ],
)
def test_what_is_none(token, reason):
    with pytest.raises(LoginRefused, match=reason) as caught:
        read_plain_token(token)
    assert "secret" not in str(caught.value)
