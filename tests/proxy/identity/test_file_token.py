"""Private keys on disk whose file is sealed under a key of a PKCS#11 token."""

import asyncio
import json
import sys

import pytest

from kveil.protocol.identity.identity import Identity
from kveil.proxy.config import Identity as IdentitySettings
from kveil.proxy.config import IdentityToken
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.file_token import FileToken
from kveil.proxy.identity.identity_file import NODE_KEYS, create_identity, protected_by, read_fingerprint, read_identity
from kveil.proxy.identity.node import protection_of
from kveil.proxy.keys.providers import pkcs11_module
from kveil.proxy.secret import Secret
from tests.support.key_services.pkcs11 import Server

KEY = "identity"


@pytest.fixture
def server(tmp_path):
    started = Server(tmp_path)
    yield started
    started.stop()


@pytest.fixture
def token(server):
    server.make_key(KEY)
    return token_of(server)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "node"


@pytest.fixture(scope="module")
def identity():
    return Identity.generate()


def token_of(server, **changed):
    settings = {**server.keys_settings()["pkcs11"], "key": KEY, **changed}
    return FileToken(IdentityToken.model_validate(settings))


def content(directory):
    return json.loads((directory / NODE_KEYS).read_text())


def change(directory, **changes):
    (directory / NODE_KEYS).write_text(json.dumps({**content(directory), **changes}))


def test_the_same_keys_come_back(directory, identity, token):
    assert create_identity(directory, identity, token)
    assert read_identity(directory, token).to_private_bytes() == identity.to_private_bytes()
    assert protected_by(directory) == "pkcs11"
    assert not pkcs11_module._open, "the token is let go of"


async def test_a_running_event_loop_may_read_it(directory, identity, token):
    create_identity(directory, identity, token)
    assert read_identity(directory, token).id == identity.id


def test_the_fingerprint_takes_no_token(directory, identity, token, server):
    create_identity(directory, identity, token)
    server.destroy(KEY)
    assert read_fingerprint(directory) == identity.id


def test_the_file_shows_no_secret(directory, identity, token, server):
    create_identity(directory, identity, token)
    create_identity(directory.with_name("plain"), identity, None)
    data = (directory / NODE_KEYS).read_text()
    assert content(directory.with_name("plain"))["keys"] not in data
    assert server.pin not in data


def test_a_rotated_key_still_opens_what_it_wrapped(directory, identity, token, server):
    create_identity(directory, identity, token)
    server.rotate(KEY)
    assert read_identity(directory, token).id == identity.id
    newer = directory.with_name("newer")
    create_identity(newer, identity, token)
    assert [content(one)["pkcs11"]["version"] for one in (directory, newer)] == ["01", "02"]


@pytest.mark.parametrize(
    ("written", "given", "sentence"),
    [
        ("token", "nothing", "is protected by a PKCS#11 token: identity.pkcs11 says which"),
        ("token", "passphrase", "is protected by a PKCS#11 token: identity.pkcs11 says which"),
        ("passphrase", "token", "is protected by a passphrase"),
        ("nothing", "token", "isn't protected by a PKCS#11 token: leave identity.pkcs11 out"),
    ],
)
def test_what_the_file_does_not_take(directory, identity, token, written, given, sentence):
    kinds = {"token": token, "passphrase": Secret(b"correct horse"), "nothing": None}
    create_identity(directory, identity, kinds[written])
    with pytest.raises(IdentityError, match=sentence):
        read_identity(directory, kinds[given])


# Tokens that don't open it -------------------------------------------------------------------------------------------


def failure(directory, token) -> str:
    with pytest.raises(IdentityError) as raised:
        read_identity(directory, token)
    assert raised.value.exit_code == 2
    return str(raised.value)


def test_a_wrong_pin(directory, identity, token, server, tmp_path):
    create_identity(directory, identity, token)
    wrong = tmp_path / "wrong"
    wrong.touch(0o600)
    wrong.write_text("00000000")
    text = failure(directory, token_of(server, pin=f"file:{wrong}"))
    assert f"refused the PIN of identity.pkcs11.pin (file:{wrong})" in text
    assert "00000000" not in text


def test_a_token_that_is_gone(directory, identity, token, server):
    create_identity(directory, identity, token)
    assert "has no token labelled gone: see pkcs11.token" in failure(directory, token_of(server, token="gone"))
    server.pause()
    assert "libsofthsm2.so can't be used" in failure(directory, token)
    server.resume()
    assert read_identity(directory, token).id == identity.id


def test_another_token_with_a_key_of_that_label(directory, identity, token, server):
    create_identity(directory, identity, token)
    server.init_token("other")
    server.token = "other"
    server.make_key(KEY)
    assert "the wrap does not open under key 'identity', CKA_ID '01'" in failure(directory, token_of(server))


def test_a_key_that_is_gone(directory, identity, token, server):
    create_identity(directory, identity, token)
    server.destroy(KEY)
    assert "has no key labelled 'identity'" in failure(directory, token)


def test_a_key_of_another_label(directory, identity, token, server):
    create_identity(directory, identity, token)
    server.make_key("other")
    text = failure(directory, token_of(server, key="other"))
    assert "it is protected by key 'identity' of a token, and identity.pkcs11.key is 'other'" in text


def test_a_key_that_is_missing_when_the_file_is_made(directory, identity, server):
    with pytest.raises(IdentityError, match="has no key labelled 'identity'"):
        create_identity(directory, identity, token_of(server))
    assert not (directory / NODE_KEYS).exists()


def test_a_token_that_never_answers(directory, identity, token, monkeypatch):
    create_identity(directory, identity, token)

    async def hangs(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr("kveil.proxy.keys.providers.pkcs11.Pkcs11Provider.unwrap", hangs)
    monkeypatch.setattr("kveil.proxy.identity.file_token.KEY_CALL_TIMEOUT_SECONDS", 0.05)
    assert "didn't answer within 0.05 s" in failure(directory, token)


def test_without_the_library(directory, identity, token, monkeypatch):
    create_identity(directory, identity, token)
    monkeypatch.delitem(sys.modules, "kveil.proxy.keys.providers.pkcs11", raising=False)
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    assert "pip install 'kveil[pkcs11]'" in failure(directory, token)


# Files that were changed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["wrapped", "sealed", "both", "id"])
def test_parts_of_another_file_do_not_fit(directory, identity, token, part):
    create_identity(directory, identity, token)
    other = directory.with_name("other")
    create_identity(other, Identity.generate(), token)
    theirs = content(other)
    swapped = {
        "wrapped": {"pkcs11": theirs["pkcs11"]},
        "sealed": {"sealed": theirs["sealed"]},
        "both": {"pkcs11": theirs["pkcs11"], "sealed": theirs["sealed"]},
        "id": {"id": theirs["id"]},
    }
    change(directory, **swapped[part])
    assert "is damaged: it isn't what was sealed with the token's key" in failure(directory, token)


def test_a_version_of_the_same_value_is_not_the_same(directory, identity, server):
    """The ciphertext is bound to the key's version too, which the wrap isn't."""
    value = bytes(range(32)).hex()
    for version in ("01", "02"):
        server.administer("make", KEY, version, value)
    token = token_of(server)
    create_identity(directory, identity, token)
    change(directory, pkcs11={**content(directory)["pkcs11"], "version": "01"})
    assert "isn't what was sealed" in failure(directory, token)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pkcs11": None}, "names no key"),
        ({"pkcs11": {"key": KEY}}, "names no key"),
        ({"pkcs11": {"key": KEY, "version": 1, "wrapped": ""}}, "names no key"),
        ({"pkcs11": {"key": KEY, "version": "01", "wrapped": "%"}}, "is no base64"),
        ({"pkcs11": {"key": KEY, "version": "01", "wrapped": "AAAA"}}, "isn't one that a PKCS#11 token makes"),
        ({"pkcs11": {"key": KEY, "version": "0g", "wrapped": "A" * 52 + "AA=="}}, "isn't one that|no CKA_ID"),
        ({"sealed": ""}, "isn't what was sealed"),
        ({"sealed": None}, "is no base64"),
        ({"sealed": "AAAA"}, "isn't what was sealed"),
    ],
    ids=str,
)
def test_damage_is_said(directory, identity, token, changes, sentence):
    create_identity(directory, identity, token)
    change(directory, **changes)
    with pytest.raises(IdentityError, match=sentence):
        read_identity(directory, token)


@pytest.mark.parametrize("place", ["wrapped", "sealed"])
def test_a_changed_bit(directory, identity, token, place):
    create_identity(directory, identity, token)
    found = content(directory)
    where = found["pkcs11"] if place == "wrapped" else found
    where[place] = ("B" if where[place][0] != "B" else "C") + where[place][1:]
    change(directory, **found)
    assert "does not open" in failure(directory, token) or "isn't what was sealed" in failure(directory, token)


# Settings ------------------------------------------------------------------------------------------------------------


def test_settings_name_the_token(server, token):
    settings = IdentitySettings.model_validate({"pkcs11": {**server.keys_settings()["pkcs11"], "key": KEY}})
    found = protection_of(settings)
    assert isinstance(found, FileToken)
    assert found.key == KEY
    assert protection_of(IdentitySettings()) is None


def test_passphrase_and_token_together_are_refused(server):
    (server.pin_file.parent / "passphrase").write_text("secret")
    both = {
        "passphrase": f"file:{server.pin_file.parent / 'passphrase'}",
        "pkcs11": {**server.keys_settings()["pkcs11"], "key": KEY},
    }
    with pytest.raises(ValueError, match="protected by one of them, so remove the other"):
        IdentitySettings.model_validate(both)
