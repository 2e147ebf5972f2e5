"""SCRAM by the examples of the RFCs, and by every way in which a client may stray from them."""

from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kveil.protocol.sasl.server.errors import LoginRefused
from kveil.protocol.sasl.server.scram import ScramCredential, ScramHash, ScramServer, is_password, make_credential
from tests.support.scram_client import ScramClient

# RFC 7677, section 3: user "user", password "pencil".
SALT = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
PENCIL = make_credential(ScramHash.SHA_256, b"pencil", salt=SALT, iterations=4096)


def server(nonce: str = SERVER_NONCE) -> ScramServer:
    def find(name: str) -> ScramCredential:
        return PENCIL

    return ScramServer(ScramHash.SHA_256, find, nonce)


def test_the_example_of_the_rfc():
    login = server()
    assert login.first(CLIENT_FIRST) == SERVER_FIRST
    assert login.user == "user"
    assert login.final(CLIENT_FINAL) == SERVER_FINAL


@pytest.mark.parametrize("hash_name", ScramHash)
@pytest.mark.parametrize("name", ["alice", "a,b=c", "zoë", "=2C"])
def test_a_client_of_its_own_mind(hash_name, name):
    """One written for the tests, by the RFC, and both sides prove themselves."""
    credential = make_credential(hash_name, b"secret", salt=b"salt", iterations=4096)
    asked = []
    login = ScramServer(hash_name, lambda user: asked.append(user) or credential, "server")
    client = ScramClient(hash_name, name, b"secret")
    client.check(login.final(client.final(login.first(client.first()))))
    assert asked == [login.user] == [name]


def test_a_wrong_password():
    client = ScramClient(ScramHash.SHA_256, "user", b"pen")
    login = server()
    with pytest.raises(LoginRefused, match="wrong name or password"):
        login.final(client.final(login.first(client.first())))


@pytest.mark.parametrize(
    "token",
    [
        b"n,,n=user,r=abc,tokenauth=true",
        b"y,,n=user,r=abc",
        b"n,a=user,n=user,r=abc",
    ],
)
def test_first_messages_that_are_served(token):
    assert server().first(token).startswith(b"r=abc%hvY")


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (b"", "ends early"),
        (b"n,,", "ends early"),
        (b"n,,n=user", "ends early"),
        (b"p=tls-unique,,n=user,r=abc", "channel binding"),
        (b"x,,n=user,r=abc", "channel binding"),
        (b"n,a=root,n=user,r=abc", "act as another"),
        (b"n,root,n=user,r=abc", "without a="),
        (b"n,,m=ext,n=user,r=abc", "without n="),
        (b"n,,user,r=abc", "without n="),
        (b"n,,n=user,x=abc", "without r="),
        (b"n,,n=user,r=", "unusable nonce"),
        (b"n,,n=user,r=" + b"x" * 513, "unusable nonce"),
        ("n,,n=user,r=ä".encode(), "unusable nonce"),
        (b"n,,n=us=er,r=abc", "escaped wrongly"),
        (b"n,,n=us=2cer,r=abc", "escaped wrongly"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_first_messages_that_are_refused(token, reason):
    with pytest.raises(LoginRefused, match=reason):
        server().first(token)


NONCE = SERVER_FIRST.split(b",")[0]


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (b"", "ends early"),
        (b"c=biws", "ends early"),
        (b"c=biws," + NONCE, "ends early"),
        (CLIENT_FINAL.replace(b"biws", b"eSws"), "changes its header"),
        (CLIENT_FINAL.replace(b"biws", b"!!"), "not base64"),
        (CLIENT_FINAL.replace(b"r=rOpr", b"r=xOpr"), "another nonce"),
        (CLIENT_FINAL.replace(b"hNlF$k0", b""), "another nonce"),
        (CLIENT_FINAL.replace(b"p=dHz", b"p=dHy"), "wrong name or password"),
        (CLIENT_FINAL.replace(b"p=", b"q="), "without p="),
        (b"c=biws," + NONCE + b",p=AAAA", "proof of a wrong length"),
        (b"c=biws," + NONCE + b",p=", "proof of a wrong length"),
        (b"c=biws," + NONCE + b",x=more,p=" + CLIENT_FINAL.partition(b",p=")[2], "wrong name or password"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_final_messages_that_are_refused(token, reason):
    login = server()
    login.first(CLIENT_FIRST)
    with pytest.raises(LoginRefused, match=reason):
        login.final(token)


def test_a_login_that_begins_with_its_end():
    with pytest.raises(LoginRefused, match="begins with its end"):
        server().final(CLIENT_FINAL)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_a_message_or_refused(data, is_final):
    login = server()
    try:
        if is_final:
            login.first(CLIENT_FIRST)
            login.final(data)
        else:
            login.first(data)
    except LoginRefused:
        return
    assert not is_final or data == CLIENT_FINAL


def test_a_password_is_told_by_its_credential():
    assert is_password(ScramHash.SHA_256, PENCIL, b"pencil")
    assert not is_password(ScramHash.SHA_256, PENCIL, b"pencils")
    assert not is_password(ScramHash.SHA_512, PENCIL, b"pencil")


def test_a_credential_does_not_show_itself():
    assert b64encode(PENCIL.stored_key).decode() not in repr(PENCIL)
    assert repr(PENCIL.stored_key) not in repr(PENCIL)
    assert repr(PENCIL.server_key) not in repr(PENCIL)
