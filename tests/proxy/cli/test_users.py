"""`kveil users`: users come and go, and no password is shown, stored or taken as an option."""

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kveil.protocol.sasl.server.scram import ScramHash, is_password
from kveil.proxy.cli import app
from kveil.proxy.users.users_store import read_users_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users.json"


def users(path: Path, *arguments: str, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(app, ["users", *arguments, "--users", str(path)], input=stdin, prog_name="kveil")


def has_password(path: Path, name: str, password: bytes) -> bool:
    content, _ = read_users_file(path)
    return is_password(ScramHash.SHA_256, content.credential(name, ScramHash.SHA_256), password)


def test_a_user_from_beginning_to_end(path):
    assert users(path, "add", "alice", stdin="first\n").exit_code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert has_password(path, "alice", b"first")
    assert users(path, "passwd", "alice", stdin="second").exit_code == 0
    assert has_password(path, "alice", b"second")
    assert not has_password(path, "alice", b"first")
    assert users(path, "remove", "alice").exit_code == 0
    assert read_users_file(path)[0].users == ()


@pytest.mark.parametrize("line", ["pass word\n", "pass word\r\n", "pass word", "pass word\nand more\n"])
def test_a_password_is_one_line(path, line):
    assert users(path, "add", "alice", stdin=line).exit_code == 0
    assert has_password(path, "alice", b"pass word")


def test_the_list_shows_names_and_dates(path):
    for name in ("bob", "alice"):
        users(path, "add", name, stdin="secret-of-theirs\n")
    listed = users(path, "list")
    assert [line.split()[:2] for line in listed.stdout.splitlines()[1:]] == [["user", "bob"], ["user", "alice"]]
    found = json.loads(users(path, "list", "--json").stdout)
    assert [user["name"] for user in found["users"]] == ["bob", "alice"]
    assert set(found["users"][0]) == {"name", "changed"}
    assert "secret-of-theirs" not in path.read_text() + listed.stdout


@pytest.mark.parametrize(
    ("arguments", "stdin", "sentence"),
    [
        (("add", "a b"), "x\n", "must be 1 to 128 letters"),
        (("add", "bob"), "", "1 to 1024 bytes"),
        (("add", "bob"), "x" * 1025, "1 to 1024 bytes"),
        (("add", "alice"), "x\n", "kveil users passwd alice"),
        (("passwd", "bob"), "x\n", "no user bob; there are: alice"),
        (("remove", "bob"), "", "no user bob; there are: alice"),
    ],
)
def test_what_can_not_be(path, arguments, stdin, sentence):
    users(path, "add", "alice", stdin="secret\n")
    before = path.read_bytes()
    result = users(path, *arguments, stdin=stdin)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stderr.startswith("kveil: ")
    assert path.read_bytes() == before


@pytest.mark.parametrize("command", [["list"], ["remove", "alice"], ["passwd", "alice"]])
def test_a_file_that_there_is_not(path, command):
    result = users(path, *command, stdin="x\n")
    assert result.exit_code == 2
    assert f"kveil users add NAME --users {path}" in result.stderr


class TestWhichFile:
    def config(self, tmp_path: Path, *files: str) -> str:
        path = tmp_path / "kveil.yaml"
        listeners = [{"address": f"127.0.0.1:{5000 + 200 * place}"} for place in range(len(files) + 1)]
        for listener, file in zip(listeners, files, strict=False):
            listener["sasl"] = {"users": str(tmp_path / file)}
        path.write_text(json.dumps({"listeners": listeners}))
        return str(path)

    def test_the_one_of_the_configuration(self, kveil, tmp_path):
        config = self.config(tmp_path, "a.json", "a.json")
        result = CliRunner().invoke(app, ["users", "add", "alice", "-c", config], input="x\n")
        assert result.exit_code == 0, result.stderr
        assert has_password(tmp_path / "a.json", "alice", b"x")

    @pytest.mark.parametrize(("files", "sentence"), [((), "no listener names one"), (("a", "b"), "name several")])
    def test_in_doubt_none(self, kveil, tmp_path, files, sentence):
        result = kveil("users", "list", "-c", self.config(tmp_path, *files))
        assert result.exit_code == 2
        assert sentence in result.stderr
        assert "--users FILE" in result.stderr
