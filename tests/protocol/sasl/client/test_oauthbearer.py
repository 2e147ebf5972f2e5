"""OAUTHBEARER: RFC 7628 as Kafka speaks it."""

import pytest

from kveil.protocol.sasl.client import OAuthBearerClient, SaslError

TOKEN = b"vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="


def test_a_token():
    client = OAuthBearerClient(TOKEN)
    assert client.mechanism == "OAUTHBEARER"
    assert client.start() == b"n,,\x01auth=Bearer " + TOKEN + b"\x01\x01"
    assert client.respond(b"") is None


def test_extensions():
    client = OAuthBearerClient(TOKEN, {"logicalCluster": "lkc-1", "identityPoolId": "pool 2"})
    end = b"\x01logicalCluster=lkc-1\x01identityPoolId=pool 2\x01\x01"
    assert client.start() == b"n,,\x01auth=Bearer " + TOKEN + end


def test_an_error_is_answered_so_that_it_can_be_told():
    client = OAuthBearerClient(TOKEN)
    client.start()
    assert client.respond(b'{"status":"invalid_token"}') == b"\x01"
    with pytest.raises(SaslError, match="refused the token"):
        client.respond(b"")


@pytest.mark.parametrize("token", [b"", b"a b", b"a\x01auth=Bearer other", b"a=b", "ä".encode(), b"a\n"])
def test_what_is_no_token(token):
    with pytest.raises(SaslError, match="no bearer token"):
        OAuthBearerClient(token)
