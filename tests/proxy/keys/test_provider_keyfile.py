"""Provider 1: wraps and unwraps by what the file holds, and takes a good new file only."""

import pytest
from structlog.testing import capture_logs

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.key_schedule import derive_kid
from kveil.proxy.keys.errors import KeyDenied, KeyFileError, KeyRefused, KeyUnavailable
from kveil.proxy.keys.keyfile import new_key_file, rotate_key
from kveil.proxy.keys.keyfile_json import encode_key_file
from kveil.proxy.keys.keyfile_store import change_key_file, create_key_file
from kveil.proxy.keys.provider import KeyContext, KeyProvider
from kveil.proxy.keys.providers.keyfile import KeyFileProvider
from kveil.proxy.policy import PROVIDER_IDS

SECRET = bytes(range(32))
KID = derive_kid(SECRET, realm="test", topic="orders", provider=1)


def rotate(path, name: str = "default") -> None:
    change_key_file(path, lambda content: rotate_key(content, name))


def test_it_is_a_provider(provider, path):
    checked: KeyProvider = provider
    assert checked.id == PROVIDER_IDS["keyfile"] == registry.KEY_FILE
    assert checked.place == str(path)


async def test_what_is_wrapped_unwraps(provider):
    block = await provider.wrap("eu", SECRET, KeyContext("test", "orders", KID))
    assert (block.provider, block.name, block.mechanism, block.version) == (1, "eu", registry.KVEIL_WRAP, "1")
    assert SECRET not in block.wrapped
    assert await provider.unwrap(block, KeyContext("test", "orders", KID)) == SECRET


async def test_two_wraps_of_one_secret_differ(provider):
    first = await provider.wrap("default", SECRET, KeyContext("test", "orders", KID))
    assert first.wrapped != (await provider.wrap("default", SECRET, KeyContext("test", "orders", KID))).wrapped


async def test_a_key_that_the_file_lacks_can_not_wrap_yet(provider):
    with pytest.raises(KeyDenied, match="kveil keys add us"):
        await provider.wrap("us", SECRET, KeyContext("test", "orders", KID))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "eu"},
        {"version": "2"},
        {"version": ""},
        {"wrapped": b""},
        {"wrapped": bytes(72)},
    ],
)
async def test_a_block_that_was_changed_is_refused(provider, change):
    block = await provider.wrap("default", SECRET, KeyContext("test", "orders", KID))
    with pytest.raises(KeyRefused):
        await provider.unwrap(block._replace(**change), KeyContext("test", "orders", KID))


async def test_every_flipped_byte_of_a_wrap_is_refused(provider):
    block = await provider.wrap("default", SECRET, KeyContext("test", "orders", KID))
    for place in range(len(block.wrapped)):
        wrapped = bytearray(block.wrapped)
        wrapped[place] ^= 1
        with pytest.raises(KeyRefused, match="does not open"):
            await provider.unwrap(block._replace(wrapped=bytes(wrapped)), KeyContext("test", "orders", KID))


async def test_a_wrap_opens_for_its_own_topic_and_kid_only(provider):
    block = await provider.wrap("default", SECRET, KeyContext("test", "orders", KID))
    with pytest.raises(KeyRefused, match="does not open"):
        await provider.unwrap(block, KeyContext("test", "other", KID))
    with pytest.raises(KeyRefused, match="does not open"):
        await provider.unwrap(block, KeyContext("test", "orders", bytes(16)))


async def test_a_refusal_shows_no_key(provider, path):
    block = await provider.wrap("default", SECRET, KeyContext("test", "orders", KID))
    with pytest.raises(KeyRefused) as caught:
        await provider.unwrap(block, KeyContext("test", "other", KID))
    shown = f"{caught.value!r} {caught.value.__cause__!r}"
    assert block.wrapped.hex() not in shown
    assert repr(block.wrapped) not in shown


async def test_another_file_with_the_same_names_does_not_open(provider, tmp_path):
    block = await provider.wrap("default", SECRET, KeyContext("test", "orders", KID))
    create_key_file(tmp_path / "other.json", new_key_file(realm="test"))
    with pytest.raises(KeyRefused, match="does not open"):
        await KeyFileProvider(tmp_path / "other.json").unwrap(block, KeyContext("test", "orders", KID))


def test_an_unchanged_file_is_not_read_again(provider, monkeypatch):
    monkeypatch.setattr("kveil.proxy.keys.providers.keyfile.read_key_file", lambda _: pytest.fail("read again"))
    assert provider.refresh() is False


async def test_a_rotation_is_taken_up_and_the_old_version_still_opens(provider, path):
    old = await provider.wrap("default", SECRET, KeyContext("test", "orders", KID))
    rotate(path)
    assert (await provider.describe("default")).primary == "1"
    assert provider.refresh() is True
    assert (await provider.wrap("default", SECRET, KeyContext("test", "orders", KID))).version == "2"
    assert await provider.unwrap(old, KeyContext("test", "orders", KID)) == SECRET
    assert provider.refresh() is False


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(b"{"), "is not JSON"),
        (lambda path: path.chmod(0o644) or path.write_bytes(path.read_bytes()), "chmod 600"),
        (lambda path: path.unlink(), "no key file"),
        (lambda path: path.write_bytes(encode_key_file(new_key_file(realm="other"))), "its realm is other"),
    ],
)
async def test_a_bad_new_file_is_told_of_once_and_the_old_content_stays(provider, path, damage, reason):
    block = await provider.wrap("default", SECRET, KeyContext("test", "orders", KID))
    damage(path)
    with capture_logs() as lines:
        for _ in range(5):
            assert provider.refresh() is False
    assert [line["event"] for line in lines] == ["keys_reload_refused"]
    assert reason in lines[0]["reason"]
    assert lines[0]["log_level"] == "error"
    assert await provider.unwrap(block, KeyContext("test", "orders", KID)) == SECRET


async def test_a_file_that_was_mended_is_taken_up(provider, path):
    good = path.read_bytes()
    path.write_bytes(b"{")
    with capture_logs():
        assert provider.refresh() is False
    path.write_bytes(good)
    rotate(path)
    with capture_logs() as lines:
        assert provider.refresh() is True
    assert [line["event"] for line in lines] == ["keys_reloaded"]
    assert (await provider.describe("default")).primary == "2"


def test_a_start_without_a_good_file_fails(tmp_path):
    with pytest.raises(KeyFileError, match="kveil keys init"):
        KeyFileProvider(tmp_path / "nope.json")


async def test_health_says_what_the_next_start_would(provider, path):
    await provider.health()
    path.chmod(0o666)
    with pytest.raises(KeyUnavailable, match="chmod 600"):
        await provider.health()


async def test_a_description_shows_names_and_versions_only(provider, path):
    rotate(path)
    provider.refresh()
    found = await provider.describe("default")
    assert (found.name, found.primary, found.versions) == ("default", "2", ("1", "2"))
    assert "secret" not in repr(found)
