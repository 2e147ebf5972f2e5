"""The private keys of a node or an authority on disk."""

import json
import stat

import pytest

from kveil.protocol.identity.crypto import KemSuite
from kveil.protocol.identity.identity import Identity
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.identity_file import (
    NODE_KEYS,
    create_identity,
    has_identity,
    protected_by,
    read_fingerprint,
    read_identity,
)
from kveil.proxy.secret import Secret

PASSPHRASE = Secret(b"correct horse")


@pytest.fixture(scope="module")
def identity():
    return Identity.generate(sign_twice=True)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "deep" / "identity"


def change(directory, **changes):
    path = directory / NODE_KEYS
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "protected"])
@pytest.mark.parametrize("made", [{}, {"sign_twice": True}, {"suite": KemSuite.X25519}], ids=str)
def test_the_same_keys_come_back(directory, passphrase, made):
    identity = Identity.generate(**made)
    assert not has_identity(directory)
    assert create_identity(directory, identity, passphrase)
    assert has_identity(directory)
    assert read_identity(directory, passphrase).to_private_bytes() == identity.to_private_bytes()
    assert read_fingerprint(directory) == identity.id
    assert protected_by(directory) == (None if passphrase is None else "passphrase")


def test_it_is_private(directory, identity):
    create_identity(directory, identity, None)
    assert stat.S_IMODE((directory / NODE_KEYS).stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    (directory / NODE_KEYS).chmod(0o640)
    with pytest.raises(IdentityError, match="chmod 600"):
        read_identity(directory, None)


def test_keys_that_are_there_stay(directory, identity):
    create_identity(directory, identity, None)
    assert not create_identity(directory, Identity.generate(), None)
    assert read_identity(directory, None).id == identity.id


def test_a_protected_file_shows_no_secret(directory, identity):
    create_identity(directory, identity, PASSPHRASE)
    data = (directory / NODE_KEYS).read_bytes()
    plain = directory.parent / "plain"
    create_identity(plain, identity, None)
    assert json.loads((plain / NODE_KEYS).read_text())["keys"].encode() not in data
    assert b"correct horse" not in data


@pytest.mark.parametrize(
    ("written", "given", "sentence"),
    [
        (None, PASSPHRASE, "isn't protected by a passphrase"),
        (PASSPHRASE, None, "is protected by a passphrase: identity.passphrase or --passphrase"),
        (PASSPHRASE, Secret(b"correct house"), "the passphrase is wrong"),
    ],
)
def test_the_wrong_passphrase(directory, identity, written, given, sentence):
    create_identity(directory, identity, written)
    with pytest.raises(IdentityError, match=sentence) as raised:
        read_identity(directory, given)
    assert "horse" not in str(raised.value)


def test_an_empty_passphrase_is_none(directory, identity):
    with pytest.raises(IdentityError, match="empty"):
        create_identity(directory, identity, Secret(b""))
    assert not has_identity(directory)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"id": "00" * 32},
        {"id": "00"},
        {"id": 7},
        {"keys": "%"},
        {"keys": None},
        {"keys": "AAAA"},
    ],
    ids=str,
)
def test_damage_is_said(directory, identity, changes):
    create_identity(directory, identity, None)
    change(directory, **changes)
    with pytest.raises(IdentityError, match=r"damaged|version"):
        read_identity(directory, None)


@pytest.mark.parametrize(
    "scrypt",
    [
        None,
        {},
        {"n": 2**21, "r": 8, "p": 1, "salt": ""},
        {"n": True, "r": 8, "p": 1, "salt": ""},
        {"n": 3, "r": 8, "p": 1, "salt": "AAAA"},
        {"n": 16, "r": 8, "p": 1, "salt": "%"},
    ],
    ids=str,
)
def test_what_a_protected_file_may_not_ask_for(directory, identity, scrypt):
    create_identity(directory, identity, PASSPHRASE)
    change(directory, scrypt=scrypt)
    with pytest.raises(IdentityError, match="damaged"):
        read_identity(directory, PASSPHRASE)


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"{"])
def test_no_json(directory, identity, data):
    create_identity(directory, identity, None)
    (directory / NODE_KEYS).write_bytes(data)
    with pytest.raises(IdentityError, match="no JSON"):
        read_fingerprint(directory)


@pytest.mark.parametrize(("name", "command"), [(NODE_KEYS, "kveil enroll"), ("authority.json", "kveil authority init")])
def test_where_nothing_is(directory, name, command):
    with pytest.raises(IdentityError, match=command):
        read_identity(directory, None, name)
