"""The users file's text: what goes in comes out, and every fault has a sentence."""

import json

import pytest

from kveil.proxy.secret import Secret
from kveil.proxy.users.errors import UsersFileError
from kveil.proxy.users.users import UsersFile, add_user
from kveil.proxy.users.users_json import decode_users_file, encode_users_file

CONTENT = add_user(add_user(UsersFile(), "alice", Secret(b"secret")), "bob", Secret(b"secret"))


def test_what_goes_in_comes_out():
    assert decode_users_file(encode_users_file(CONTENT)) == CONTENT
    assert decode_users_file(encode_users_file(UsersFile(decoy=bytes(32)))) == UsersFile(decoy=bytes(32))


def test_no_password_is_in_it():
    assert b"secret" not in encode_users_file(CONTENT)


def changed(path: str, value: object) -> bytes:
    document = json.loads(encode_users_file(CONTENT))
    *way, last = [int(part) if part.isdecimal() else part for part in path.split("/")]
    node = document
    for step in way:
        node = node[step]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("format", "kveil-keys", "no users file"),
        ("version", 2, "newer kveil"),
        ("version", True, "newer kveil"),
        ("decoy", "AAAA", "decoy must be 32 bytes"),
        ("decoy", None, "must have decoy"),
        ("more", 1, "nothing else"),
        ("users", {}, "users must be a list"),
        ("users/0", 5, "must be an object"),
        ("users/0/name", "a b", "user's name must be"),
        ("users/0/name", "bob", "names a user twice"),
        ("users/0/changed", 5, "changed of user alice must be text"),
        ("users/0/sha-512", None, "must have"),
        ("users/0/sha-256/iterations", 4095, "sha-256 of user alice must be 4096 to 1000000"),
        ("users/0/sha-256/iterations", 1_000_001, "must be 4096 to 1000000"),
        ("users/0/sha-256/iterations", "4096", "must be 4096 to 1000000"),
        ("users/0/sha-256/salt", "", "salt in sha-256 of user alice must be some bytes"),
        ("users/0/sha-256/stored_key", "AAAA", "must be 32 bytes"),
        ("users/1/sha-512/server_key", "§§", "server_key in sha-512 of user bob must be 64 bytes"),
    ],
)
def test_a_fault_has_a_sentence(path, value, sentence):
    with pytest.raises(UsersFileError, match=sentence):
        decode_users_file(changed(path, value))


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b"[]", b"5"])
def test_what_is_no_users_file(data):
    with pytest.raises(UsersFileError, match=r"is not JSON|is no users file"):
        decode_users_file(data)
