"""PLAIN, with the example of RFC 4616."""

import pytest

from kveil.protocol.sasl.client import PlainClient, SaslError


def test_the_example_of_the_rfc():
    client = PlainClient(b"tim", b"tanstaaftanstaaf")
    assert client.mechanism == "PLAIN"
    assert client.start() == b"\0tim\0tanstaaftanstaaf"
    assert client.respond(b"") is None


def test_a_server_that_says_more():
    client = PlainClient(b"tim", b"secret")
    client.start()
    with pytest.raises(SaslError, match="token of its own"):
        client.respond(b"give me more")


@pytest.mark.parametrize(
    ("username", "password", "name"),
    [
        (b"", b"secret", "username"),
        (b"tim\0root", b"secret", "username"),
        (b"\xff", b"secret", "username"),
        (b"tim", b"", "password"),
        (b"tim", b"sec\0ret", "password"),
        (b"tim", b"sec\xffret", "password"),
    ],
)
def test_what_can_not_be_sent(username, password, name):
    with pytest.raises(SaslError, match=f"the {name} is") as caught:
        PlainClient(username, password)
    assert "sec" not in str(caught.value)
