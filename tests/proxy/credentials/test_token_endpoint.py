"""The client credentials grant, against a real HTTP server."""

import json
import ssl

import pytest

from kveil.proxy.credentials.token_endpoint import ANSWER_BYTES, LIFE_SECONDS, TokenEndpoint
from kveil.proxy.credentials.tokens import TokenUnavailable
from kveil.proxy.secret import Secret
from tests.support.loops import both_loops
from tests.support.ports import reserved_ports
from tests.support.token_server import CLIENT_ID, CLIENT_SECRET, TokenRequest, TokenServer

ID, SECRET = Secret(CLIENT_ID.encode()), Secret(CLIENT_SECRET.encode())


@pytest.fixture
def server():
    with TokenServer() as running:
        yield running


def endpoint(url, *, scope=None, context=None, seconds=20.0):
    return TokenEndpoint(url=url, scope=scope, context=context, seconds=seconds)


@both_loops
async def test_a_token(server):
    token = await endpoint(server.url, scope="kafka read").fetch(ID, SECRET)
    assert token.life_seconds == 600
    assert token.value.reveal().endswith(b".")
    form = {"grant_type": "client_credentials", "scope": "kafka read"}
    assert server.requests == [TokenRequest(client_id=CLIENT_ID, client_secret=CLIENT_SECRET, form=form)]


@pytest.mark.parametrize(
    ("status", "headers", "body", "reason"),
    [
        (200, {}, b"", "without an access_token"),
        (200, {}, b"[]", "without an access_token"),
        (200, {}, b'{"access_token": 5}', "without an access_token"),
        (200, {}, b'{"access_token": "x", "token_type": "mac"}', "another type than bearer"),
        (200, {}, b"x" * (ANSWER_BYTES + 1), "more than"),
        (302, {"Location": "http://127.0.0.1:1/"}, b"", "answered 302"),
        (400, {}, b'{"error": "invalid_scope", "error_description": "no such scope"}', "invalid_scope no such scope"),
        (500, {}, b"<html>", "answered 500"),
    ],
)
async def test_no_token(server, status, headers, body, reason):
    server.instead = (status, headers, body)
    with pytest.raises(TokenUnavailable, match=reason):
        await endpoint(server.url).fetch(ID, SECRET)
    assert len(server.requests) == 1


async def test_what_the_server_repeats_of_the_secret_is_not_told(server):
    with pytest.raises(TokenUnavailable, match=r"401: 'invalid_client not the secret: \.\.\.'"):
        await endpoint(server.url).fetch(ID, Secret(b"hunter2"))


@pytest.mark.parametrize("expires_in", [{}, {"expires_in": None}, {"expires_in": "soon"}, {"expires_in": float("nan")}])
async def test_a_life_that_is_not_told(server, expires_in):
    server.instead = (200, {}, json.dumps({"access_token": "x", **expires_in}).encode())
    assert (await endpoint(server.url).fetch(ID, SECRET)).life_seconds == LIFE_SECONDS


async def test_one_that_does_not_answer(server):
    server.may_answer.clear()
    with pytest.raises(TokenUnavailable, match=r"didn't answer within 0\.2 s"):
        await endpoint(server.url, seconds=0.2).fetch(ID, SECRET)


@both_loops
async def test_one_that_is_not_there():
    with reserved_ports(1) as (port,), pytest.raises(TokenUnavailable, match="can't be used"):
        await endpoint(f"http://127.0.0.1:{port}/").fetch(ID, SECRET)


async def test_one_without_tls_where_tls_is_due(server):
    url = server.url.replace("http:", "https:")
    with pytest.raises(TokenUnavailable, match="can't be used"):
        await endpoint(url, context=ssl.create_default_context()).fetch(ID, SECRET)
    assert server.requests == []
