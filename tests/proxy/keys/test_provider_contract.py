"""What every provider does alike, each against its real service."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from kveil.protocol.envelope.header import KeyBlock, encode_extensions
from kveil.protocol.envelope.key_schedule import derive_kid
from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeyUnavailable
from kveil.proxy.keys.provider import KeyContext, KeyProvider
from tests.support.key_services import KEY_SERVERS, start_key_server
from tests.support.key_services.service import KeyServer

SECRET = bytes(range(1, 33))


@pytest.fixture(scope="module", params=KEY_SERVERS)
def server(request, tmp_path_factory):
    with start_key_server(request.param, tmp_path_factory.mktemp(request.param)) as started:
        yield started


@pytest.fixture
async def provider(server: KeyServer) -> AsyncIterator[KeyProvider]:
    made = server.provider()
    yield made
    await made.close()


@pytest.fixture
def new_key(server: KeyServer, provider: KeyProvider) -> Callable[[], str]:
    """Makes a key that no other test uses, and gives its name."""

    def make() -> str:
        name = f"key-{secrets.token_hex(4)}"
        server.make_key(name)
        provider.refresh()
        return name

    return make


def context(provider: KeyProvider, topic: str = "orders", realm: str = "test") -> KeyContext:
    return KeyContext(realm, topic, derive_kid(SECRET, realm=realm, topic=topic, provider=provider.id))


async def test_what_is_wrapped_unwraps(provider, new_key):
    name = new_key()
    block = await provider.wrap(name, SECRET, context(provider))
    assert (block.provider, block.name) == (provider.id, name)
    assert SECRET not in block.wrapped
    assert await provider.unwrap(block, context(provider)) == SECRET


async def test_a_block_fits_an_envelope(provider, new_key):
    block = await provider.wrap(new_key(), SECRET, context(provider))
    encode_extensions(block)
    assert KeyBlock.decode(block.encode()) == block


async def test_another_process_unwraps_it(provider, server, new_key):
    block = await provider.wrap(new_key(), SECRET, context(provider))
    other = server.provider()
    assert await other.unwrap(block, context(provider)) == SECRET
    await other.close()


async def test_another_key_does_not_unwrap_it(provider, new_key):
    name, other = new_key(), new_key()
    block = await provider.wrap(name, SECRET, context(provider))
    with pytest.raises(KeyRefused):
        await provider.unwrap(block._replace(name=other), context(provider))


async def test_a_damaged_wrap_is_refused(provider, new_key):
    block = await provider.wrap(new_key(), SECRET, context(provider))
    for place in (0, len(block.wrapped) // 2, len(block.wrapped) - 1):
        wrapped = bytearray(block.wrapped)
        wrapped[place] ^= 1
        with pytest.raises(KeyRefused) as caught:
            await provider.unwrap(block._replace(wrapped=bytes(wrapped)), context(provider))
        assert block.name in str(caught.value)


@pytest.mark.parametrize("wrapped", [b"x", b"\x00" * 24, b"\xff" * 3000], ids=["one byte", "short", "long"])
async def test_a_made_up_wrap_is_refused(provider, new_key, wrapped):
    block = await provider.wrap(new_key(), SECRET, context(provider))
    with pytest.raises(KeyRefused):
        await provider.unwrap(block._replace(wrapped=wrapped), context(provider))


@pytest.mark.parametrize("version", ["", "99", "0", "../../x", "\n\x00", "é" * 200])
async def test_a_made_up_version_opens_nothing_else(provider, new_key, version):
    """It may be ignored where the wrap itself says which one it needs; it leads nowhere else."""
    block = await provider.wrap(new_key(), SECRET, context(provider))
    with suppress(KeyRefused, KeyDenied):
        assert await provider.unwrap(block._replace(version=version), context(provider)) == SECRET


async def test_a_wrap_is_bound_to_realm_and_topic_where_the_service_can(provider, server, new_key):
    block = await provider.wrap(new_key(), SECRET, context(provider))
    for other in (context(provider, topic="other"), context(provider, realm="other")):
        if server.takes_context:
            with pytest.raises(KeyRefused):
                await provider.unwrap(block, other)
        else:
            assert await provider.unwrap(block, other) == SECRET  # the kid tells


async def test_a_key_that_is_not_there(provider, server):
    with pytest.raises(KeyDenied, match="nobody-made-it"):
        await provider.wrap("nobody-made-it", SECRET, context(provider))
    with pytest.raises(KeyDenied, match="nobody-made-it"):
        await provider.describe("nobody-made-it")


async def test_a_rotation_changes_the_version_and_what_was_wrapped_still_opens(provider, server, new_key):
    name = new_key()
    before = await provider.wrap(name, SECRET, context(provider))
    server.rotate(name)
    provider.refresh()
    after = await provider.wrap(name, SECRET, context(provider))
    assert (after.version != before.version) == server.has_versions
    for block in (before, after):
        assert await provider.unwrap(block, context(provider)) == SECRET
    if server.has_versions:
        description = await provider.describe(name)
        assert description.primary == after.version
        assert description.versions == (before.version, after.version)


async def test_a_disabled_key_does_nothing_until_it_is_enabled(provider, server, new_key):
    name = new_key()
    block = await provider.wrap(name, SECRET, context(provider))
    server.disable(name)
    provider.refresh()
    with pytest.raises(KeyDenied, match=name):
        await provider.wrap(name, SECRET, context(provider))
    with pytest.raises((KeyDenied, KeyRefused), match=name):
        await provider.unwrap(block, context(provider))
    server.enable(name)
    provider.refresh()
    assert await provider.unwrap(block, context(provider)) == SECRET
    await provider.wrap(name, SECRET, context(provider))


async def test_what_a_destroyed_key_wrapped_is_gone(provider, server, new_key):
    name = new_key()
    block = await provider.wrap(name, SECRET, context(provider))
    server.destroy(name)
    provider.refresh()
    with pytest.raises((KeyDenied, KeyRefused), match=name):
        await provider.unwrap(block, context(provider))


async def test_health_and_an_outage(provider, server, new_key):
    name = new_key()
    await provider.health()
    server.pause()
    try:
        with pytest.raises(KeyUnavailable):
            await provider.health()
    finally:
        server.resume()
    await provider.health()
    assert await provider.wrap(name, SECRET, context(provider))


async def test_the_place_is_told_and_no_failure_shows_a_secret(provider, new_key):
    block = await provider.wrap(new_key(), SECRET, context(provider))
    assert provider.place
    with pytest.raises(KeyRefused) as caught:
        await provider.unwrap(block._replace(wrapped=block.wrapped[:-1]), context(provider))
    shown = repr(caught.value) + repr(caught.value.__cause__)
    assert block.wrapped.hex() not in shown
    assert SECRET.hex() not in shown
