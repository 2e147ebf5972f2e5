"""A relay before the login at the listener: little memory, little time."""

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.config import SaslMechanism
from kveil.proxy.listener_login import ListenerLogin
from kveil.proxy.login import MAX_TOKEN_BYTES
from kveil.proxy.users.users_store import Users
from tests.support.conversation import read_response
from tests.support.listener import make_users
from tests.support.loops import both_loops
from tests.support.security import USERS

HANDSHAKE, AUTHENTICATE, HEARTBEAT = ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE, 12
LARGE = {"group_id": "g" * 30_000, "member_id": "m" * 30_000}


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    return Users(make_users(tmp_path_factory.mktemp("users") / "users.json", ["alice"]))


@pytest.fixture
def run_login(run_proxy, users):
    def run(**limits):
        return run_proxy(make_login=lambda: ListenerLogin(users, tuple(SaslMechanism)), limits=limits)

    return run


async def log_in(client, password=USERS["alice"]):
    await client.ask(HANDSHAKE, 1, {"mechanism": "PLAIN"})
    frame = await client.ask(AUTHENTICATE, 2, {"auth_bytes": f"\0alice\0{password}".encode()})
    return read_response(AUTHENTICATE, 2, frame).error_code


@both_loops
async def test_who_logs_in_goes_on(run_login):
    async with run_login() as (proxy, broker):
        client = await proxy.client()
        assert await log_in(client) == 0
        await client.ask(HEARTBEAT, 4, LARGE)
        assert broker.apis() == [HEARTBEAT]


@both_loops
async def test_who_takes_too_long_is_closed(run_login):
    async with run_login(login_seconds=0.2) as (proxy, broker):
        slow, quick = await proxy.client(), await proxy.client()
        assert await log_in(quick) == 0
        await slow.ask(HANDSHAKE, 1, {"mechanism": "PLAIN"})
        assert await slow.closed() == b""
        (line,) = proxy.lines("connection_closed")
        assert "no login within 0.2 s (limits.login_seconds)" in line["reason"]
        await quick.ask(HEARTBEAT, 4)
        assert broker.apis() == [HEARTBEAT]


@both_loops
async def test_a_wrong_password_is_answered_then_closed(run_login):
    async with run_login() as (proxy, broker):
        client = await proxy.client()
        assert await log_in(client, "wrong") == 58
        assert await client.closed() == b""
        await proxy.until_ended(1)
        assert len(proxy.lines("login_refused")) == 1
        assert proxy.lines("connection_closed") == []
        assert broker.requests == []


@both_loops
async def test_frames_are_small_before_the_login(run_login):
    async with run_login(frame_bytes=4 * MAX_TOKEN_BYTES) as (proxy, _):
        client, other = await proxy.client(), await proxy.client()
        await client.send_bytes((MAX_TOKEN_BYTES + 1).to_bytes(4, "big"))
        assert await client.closed() == b""
        assert f"over the limit of {MAX_TOKEN_BYTES}" in proxy.lines("connection_closed")[0]["reason"]
        assert await log_in(other) == 0
        (relay,) = [relay for relay in proxy.relays if relay._connection.is_authenticated]
        assert relay.client.frames.limit_bytes == 4 * MAX_TOKEN_BYTES


@both_loops
async def test_requests_behind_the_login_wait_for_it(run_login):
    """All in one write: the password is still being checked when the last one is there."""
    async with run_login() as (proxy, broker):
        client = await proxy.client()
        await client.send(HANDSHAKE, 1, {"mechanism": "PLAIN"})
        await client.send(AUTHENTICATE, 2, {"auth_bytes": b"\0alice\0wrong"})
        await client.send(HEARTBEAT, 4)
        await client.closed()
        await proxy.until_ended(1)
        assert broker.requests == []
