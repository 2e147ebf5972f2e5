"""The users file on disk: for its owner alone, changed as a whole, and read again when it has changed."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from kveil.protocol.sasl.server.scram import ScramHash, is_password
from kveil.proxy.secret import Secret
from kveil.proxy.users import users_store
from kveil.proxy.users.errors import UsersFileError
from kveil.proxy.users.users import add_user, remove_user
from kveil.proxy.users.users_store import Users, change_users_file, read_users_file


def add(path, name, password=b"secret"):
    return change_users_file(path, lambda content: add_user(content, name, Secret(password)), make=True)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "sub" / "users.json"
    add(path, "alice")
    return path


def test_the_first_user_makes_the_file(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content, _ = read_users_file(path)
    assert [user.name for user in content.users] == ["alice"]


def test_a_change_keeps_the_rest(path):
    before, _ = read_users_file(path)
    add(path, "bob")
    content, _ = read_users_file(path)
    assert content.users[0] == before.users[0]
    assert (content.decoy, content.users[1].name) == (before.decoy, "bob")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("new", [True, False])
def test_changes_at_the_same_time_go_one_after_the_other(path, tmp_path, new):
    where = tmp_path / "new.json" if new else path
    names = {f"u{number}" for number in range(12)}
    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(add, where, name) for name in names]:
            job.result()
    content, _ = read_users_file(where)
    assert {user.name for user in content.users} == names | (set() if new else {"alice"})


def test_a_change_that_fails_changes_nothing(path):
    before = path.read_bytes()
    with pytest.raises(UsersFileError, match="a user alice already"):
        add(path, "alice")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda path: path.unlink(), "no users file .*kveil users add NAME --users"),
        (lambda path: path.chmod(0o640), "users file .* is open to other users .*chmod 600"),
        (lambda path: path.write_text("{}"), "users file .* can't be used: is no users file"),
        (lambda path: path.write_bytes(bytes(3000)), "is larger than 2000 bytes: that is no users file"),
    ],
)
def test_a_file_that_can_not_be_used(path, monkeypatch, spoil, sentence):
    monkeypatch.setattr(users_store, "USERS_FILE_BYTES", 2000)
    spoil(path)
    with pytest.raises(UsersFileError, match=sentence):
        Users(path)
    with pytest.raises(UsersFileError, match=sentence):
        change_users_file(path, lambda content: content)


class TestUsers:
    def test_follow_the_file(self, path):
        users = Users(path)
        add(path, "bob", b"b")
        assert not users.knows("bob")
        users.refresh()
        assert users.knows("bob")
        assert is_password(ScramHash.SHA_512, users.credential("bob", ScramHash.SHA_512), b"b")
        change_users_file(path, lambda content: remove_user(content, "alice"))
        users.refresh()
        assert not users.knows("alice")

    def test_are_kept_when_the_file_is_broken_which_is_told_once(self, path, monkeypatch):
        told = []
        monkeypatch.setattr(
            users_store, "_log", type("Log", (), {"error": lambda self, *a, **k: told.append((a, k))})()
        )
        users = Users(path)
        path.write_text("half of")
        users.refresh()
        users.refresh()
        path.unlink()
        users.refresh()
        assert users.knows("alice")
        assert [line[0] for line, _ in told] == ["users_reload_refused"] * 2
        assert "is not JSON" in told[0][1]["reason"]

    def test_an_unchanged_file_is_not_read_again(self, path, monkeypatch):
        users = Users(path)
        monkeypatch.setattr(users_store, "read_users_file", lambda _: pytest.fail("read again"))
        users.refresh()
