"""One token for all, renewed before it expires."""

import asyncio

import pytest

from kveil.proxy.credentials import tokens
from kveil.proxy.credentials.tokens import SharedToken, Token, TokenUnavailable
from kveil.proxy.secret import Secret
from tests.support.conversation import Clock


class Server:
    """Gives numbered tokens that live 100 s."""

    def __init__(self):
        self.calls = 0
        self.failure = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def fetch(self):
        self.calls += 1
        await self.may_answer.wait()
        if self.failure:
            raise self.failure
        return Token(value=Secret(b"%d" % self.calls), life_seconds=100)


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def shared(server, clock, fresh_log_limits):
    return SharedToken(server.fetch, clock)


async def number(shared):
    return int((await shared.get()).value.reveal())


async def test_many_share_one(shared, server):
    assert await asyncio.gather(*(number(shared) for _ in range(20))) == [1] * 20
    assert await number(shared) == 1
    assert server.calls == 1


@pytest.mark.parametrize(("after", "expected"), [(79.9, 1), (80, 2), (99.5, 2), (1000, 2)])
async def test_renewed_at_80_percent_of_its_life(shared, clock, after, expected):
    await shared.get()
    clock.now += after
    assert await number(shared) == expected


async def test_the_old_one_serves_while_it_is_good_and_no_new_one_can_be_had(shared, server, clock):
    await shared.get()
    server.failure = TokenUnavailable("down")
    clock.now += 85
    assert await number(shared) == 1
    assert await number(shared) == 1
    assert server.calls == 2  # left alone for some seconds
    clock.now += tokens.RETRY_SECONDS
    assert await number(shared) == 1
    assert server.calls == 3
    clock.now += 9.5
    with pytest.raises(TokenUnavailable, match="down"):
        await shared.get()
    server.failure = None
    clock.now += tokens.RETRY_SECONDS
    assert await number(shared) == 5


async def test_a_slow_server_holds_nobody_up_while_the_old_one_is_good(shared, server, clock, monkeypatch):
    monkeypatch.setattr(tokens, "PATIENCE_SECONDS", 0.01)
    await shared.get()
    server.may_answer.clear()
    clock.now += 85
    assert await number(shared) == 1
    server.may_answer.set()
    assert await number(shared) == 2
    assert server.calls == 2


async def test_who_stops_waiting_leaves_it_to_the_others(shared, server):
    server.may_answer.clear()
    first, second = asyncio.ensure_future(shared.get()), asyncio.ensure_future(shared.get())
    await asyncio.sleep(0)
    first.cancel()
    server.may_answer.set()
    assert (await second).value.reveal() == b"1"


async def test_a_failure_is_told_without_another_call(shared, server):
    server.failure = TokenUnavailable("no such client")
    for _ in range(3):
        with pytest.raises(TokenUnavailable, match="no such client"):
            await shared.get()
    assert server.calls == 1


async def test_one_that_a_broker_refused_is_not_used_again(shared):
    token = await shared.get()
    shared.drop(token)
    assert await number(shared) == 2
    shared.drop(token)  # told once more: the new one stays
    assert await number(shared) == 2
