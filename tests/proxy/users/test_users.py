"""Users come and go, and a user that there isn't looks like any other."""

import pytest

from kveil.protocol.sasl.server.scram import ScramHash, is_password
from kveil.proxy.secret import Secret
from kveil.proxy.users.errors import UsersFileError
from kveil.proxy.users.users import ITERATIONS, UsersFile, add_user, change_password, remove_user

ALICE = add_user(UsersFile(), "alice", Secret(b"first"))


def test_a_user_has_a_credential_for_both_hashes():
    (alice,) = ALICE.users
    for hash_name in ScramHash:
        assert is_password(hash_name, alice.credential(hash_name), b"first")
        assert not is_password(hash_name, alice.credential(hash_name), b"second")
    assert alice.sha_256.salt != alice.sha_512.salt


def test_another_password():
    changed = change_password(ALICE, "alice", Secret(b"second"))
    assert is_password(ScramHash.SHA_256, changed.credential("alice", ScramHash.SHA_256), b"second")
    assert changed.credential("alice", ScramHash.SHA_256).salt != ALICE.credential("alice", ScramHash.SHA_256).salt


def test_users_go():
    both = add_user(ALICE, "bob", Secret(b"b"))
    assert [user.name for user in remove_user(both, "alice").users] == ["bob"]


@pytest.mark.parametrize("name", ["", "-a", "a b", "a=b", "CN=alice", "a,b", "a\n", "ä", "x" * 129])
def test_names_that_no_user_has(name):
    with pytest.raises(UsersFileError, match="1 to 128 letters"):
        add_user(ALICE, name, Secret(b"secret"))


@pytest.mark.parametrize("name", ["a", "alice@example.net", "svc-1.eu_2", "x" * 128])
def test_names_that_a_user_may_have(name):
    assert add_user(ALICE, name, Secret(b"secret")).find(name)


@pytest.mark.parametrize("password", [b"", b"a\0b", b"x" * 1025])
def test_passwords_that_no_user_has(password):
    with pytest.raises(UsersFileError, match="1 to 1024 bytes"):
        add_user(ALICE, "bob", Secret(password))


def test_a_name_is_given_once():
    with pytest.raises(UsersFileError, match="kveil users passwd alice"):
        add_user(ALICE, "alice", Secret(b"x"))


@pytest.mark.parametrize("change", [remove_user, lambda content, name: change_password(content, name, Secret(b"x"))])
def test_a_user_that_there_is_not(change):
    with pytest.raises(UsersFileError, match="no user bob; there are: alice"):
        change(ALICE, "bob")


@pytest.mark.parametrize("hash_name", ScramHash)
def test_a_user_that_there_is_not_looks_like_any_other(hash_name):
    """The same salt at every try, another for each name, as many iterations; and no password fits."""
    found = [ALICE.credential("mallory", hash_name) for _ in range(2)]
    real = ALICE.credential("alice", hash_name)
    assert found[0].salt == found[1].salt != ALICE.credential("trudy", hash_name).salt
    assert (len(found[0].salt), found[0].iterations) == (len(real.salt), real.iterations) == (16, ITERATIONS)
    assert len(found[0].stored_key) == len(real.stored_key)
    assert found[0].stored_key != found[1].stored_key
    assert UsersFile().credential("mallory", hash_name).salt != found[0].salt


def test_nothing_shows_a_secret():
    text = repr(ALICE)
    assert "first" not in text
    assert repr(ALICE.decoy) not in text
    assert repr(ALICE.users[0].sha_256.stored_key) not in text
