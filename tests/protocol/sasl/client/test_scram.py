"""SCRAM, with the example of RFC 7677 and servers that cheat."""

import base64
import hashlib
import hmac

import pytest

from kveil.protocol.sasl.client import SaslError, ScramClient
from kveil.protocol.sasl.client.scram import ITERATIONS_MOST

NONCE = "rOprNGfwEbeRWgbNEkqO"
JOINED = NONCE + "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SERVER_FIRST = f"r={JOINED},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode()
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.fixture
def client():
    return ScramClient("SCRAM-SHA-256", b"user", b"pencil", NONCE)


def test_the_example_of_the_rfc(client):
    assert client.start() == f"n,,n=user,r={NONCE}".encode()
    proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert client.respond(SERVER_FIRST) == f"c=biws,r={JOINED},p={proof}".encode()
    assert client.respond(SERVER_FINAL) is None


def test_sha_512_by_a_server_of_our_own():
    """The other way round, from the stored key: RFC 5802, 3."""
    client = ScramClient("SCRAM-SHA-512", "grün".encode(), "Straße ﬁ".encode())
    first = client.start().decode().removeprefix("n,,")
    nonce, salt = first.partition("r=")[2] + "server", b"0123456789abcdef"
    server_first = f"r={nonce},s={base64.b64encode(salt).decode()},i=8192"
    final = client.respond(server_first.encode()).decode()
    without_proof, _, proof = final.rpartition(",p=")
    signed = f"{first},{server_first},{without_proof}".encode()
    # As Kafka stores it: the password's bytes as they are, without SASLprep.
    salted = hashlib.pbkdf2_hmac("sha512", "Straße ﬁ".encode(), salt, 8192)
    client_key = hmac.digest(salted, b"Client Key", "sha512")
    signature = hmac.digest(hashlib.sha512(client_key).digest(), signed, "sha512")
    assert bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True)) == client_key
    server_signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha512"), signed, "sha512")
    assert client.respond(b"v=" + base64.b64encode(server_signature)) is None


def test_names_are_escaped():
    assert ScramClient("SCRAM-SHA-256", b"a=b,c", b"x", "n").start() == b"n,,n=a=3Db=2Cc,r=n"


def test_nonces_differ():
    assert len({ScramClient("SCRAM-SHA-256", b"a", b"b").start() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("server_first", "reason"),
    [
        (b"", "malformed"),
        (b"e=unknown-user", "malformed"),
        (b"\xff", "not UTF-8"),
        (b"m=must-know," + SERVER_FIRST, "wants an extension"),
        (SERVER_FIRST.replace(JOINED.encode(), b"someoneelses"), "doesn't continue ours"),
        (SERVER_FIRST.replace(JOINED.encode(), NONCE.encode()), "doesn't continue ours"),
        (SERVER_FIRST.replace(b"W22Z", b"W2=2Z"), "base64"),
        (SERVER_FIRST.replace(b"i=4096", b"i=4095"), "4095 iterations"),
        (SERVER_FIRST.replace(b"i=4096", b"i=1"), "1 iterations"),
        (SERVER_FIRST.replace(b"i=4096", b"i=%d" % (ITERATIONS_MOST + 1)), "iterations"),
        (SERVER_FIRST.replace(b"i=4096", b"i=999999999"), "iterations"),
        (SERVER_FIRST.replace(b"i=4096", b"i=9999999999"), "malformed"),
        (SERVER_FIRST.replace(b"i=4096", b"i=-4096"), "malformed"),
        (SERVER_FIRST + b"," + b"x" * 5000, "too long"),
    ],
)
def test_a_first_message_that_is_not_answered(client, server_first, reason):
    client.start()
    with pytest.raises(SaslError, match=reason):
        client.respond(server_first)


@pytest.mark.parametrize(
    ("server_final", "reason"),
    [
        (SERVER_FINAL.replace(b"6", b"7", 1), "doesn't know the password"),
        (b"v=", "no signature"),
        (b"v=AAAA", "doesn't know the password"),
        (b"v=A", "base64"),
        (b"", "no signature"),
        (b"e=other-error", "no signature"),
    ],
)
def test_a_server_that_can_not_prove_itself(client, server_final, reason):
    client.start()
    client.respond(SERVER_FIRST)
    with pytest.raises(SaslError, match=reason):
        client.respond(server_final)


def test_a_server_that_goes_on(client):
    client.start()
    client.respond(SERVER_FIRST)
    client.respond(SERVER_FINAL)
    with pytest.raises(SaslError, match="goes on"):
        client.respond(SERVER_FINAL)


def test_a_server_that_says_yes_too_early(client):
    """Its proof can't come in place of the salt."""
    client.start()
    with pytest.raises(SaslError, match="malformed"):
        client.respond(SERVER_FINAL)
