"""A key file, a clock that stands still, and what most key tests need."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kveil.proxy.config import Limits, Mode, StubCodec
from kveil.proxy.keys.keyfile import new_key_file
from kveil.proxy.keys.keyfile_store import create_key_file
from kveil.proxy.keys.providers.keyfile import KeyFileProvider
from kveil.proxy.keys.ring import KeyRing
from kveil.proxy.policy import KeyRef, Rule
from tests.support.announced import Clock, World
from tests.support.key_rings import key_file_ring


@pytest.fixture(autouse=True)
def no_pause_between_tries(monkeypatch):
    monkeypatch.setattr("kveil.proxy.keys.calls.FIRST_PAUSE_SECONDS", 0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "keys.json"
    create_key_file(place, new_key_file(realm="test", names=("default", "eu")))
    return place


@pytest.fixture
def provider(path: Path) -> KeyFileProvider:
    return KeyFileProvider(path)


@pytest.fixture
def ring(provider: KeyFileProvider, clock: Clock) -> KeyRing:
    return key_file_ring(provider, clock=clock)


@pytest.fixture
def make_rule() -> Callable[..., Rule]:
    def make(key: str = "default", *accept: str, sealed_as: str | None = None) -> Rule:
        return Rule(
            seal=True,
            mode=Mode.AUTO,
            key=KeyRef(1, key),
            accept_keys=frozenset(KeyRef(1, name) for name in (key, *accept)),
            accept_plain=False,
            stub_codec=StubCodec.AUTO,
            sealed_as=sealed_as,
        )

    return make


@pytest.fixture
def rule(make_rule: Callable[..., Rule]) -> Rule:
    return make_rule()


class Slow:
    """A provider over another one that waits for a gate, counts calls, and fails when told to."""

    def __init__(self, inner: KeyFileProvider) -> None:
        self._inner = inner
        self.gate = asyncio.Event()
        self.gate.set()
        self.wraps = 0
        self.unwraps = 0
        self.failure: Exception | None = None
        self.answer: bytes | None = None

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    async def _pass(self) -> None:
        await self.gate.wait()
        if self.failure:
            raise self.failure

    async def wrap(self, *args):
        self.wraps += 1
        await self._pass()
        return await self._inner.wrap(*args)

    async def unwrap(self, *args):
        self.unwraps += 1
        await self._pass()
        return self.answer if self.answer is not None else await self._inner.unwrap(*args)


@pytest.fixture
def slow(provider):
    return Slow(provider)


@pytest.fixture
def reader(slow, clock):
    """A ring that has sealed nothing itself, over a provider that counts."""
    return key_file_ring(slow, limits=Limits(opened_keys=3), clock=clock)


@pytest.fixture
def settle() -> Callable[[], Awaitable[None]]:
    """Lets everything run that can run now."""

    async def wait() -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    return wait


@pytest.fixture
def world(tmp_path: Path, clock: Clock) -> World:
    return World(tmp_path, clock)
