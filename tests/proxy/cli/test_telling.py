"""What commands say to machines, alone on standard output; and that they are still at it."""

import json
import socket
import threading
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from kveil.proxy.cli import telling
from kveil.proxy.cli.root import app
from kveil.proxy.secret import Secret

FOR_PEOPLE = {f"kveil {name}" for name in ("run", "producer", "consumer", "keeper run", "authority run", "demo")}
"""They run on: `--log-format json` is theirs. The demo is to be looked at."""
PASSWORD = Secret(b"a-password")
SECONDS = 30.0


def commands(command: object, name: str) -> list[tuple[str, set[str]]]:
    if isinstance(command, TyperGroup):
        inner = ((child, command.get_command(None, child)) for child in command.list_commands(None))
        return [each for child, one in inner for each in commands(one, f"{name} {child}")]
    return [(name, {option for one in command.params for option in one.opts})]


@pytest.mark.parametrize(("name", "options"), commands(typer.main.get_command(app), "kveil"), ids=str)
def test_every_command_that_ends_speaks_to_machines(name, options):
    assert ("--json" in options) == (name not in FOR_PEOPLE)


def test_the_life_of_a_key_file(kveil, tmp_path):
    keys = tmp_path / "keys.json"

    def told(*arguments: str) -> tuple[dict[str, object], str]:
        result = kveil("keys", *arguments, "--keys", keys, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout), result.stderr

    made, warning = told("init", "--realm", "test", "--key", "orders")
    assert made == {"path": str(keys), "realm": "test", "keys": ["orders"]}
    assert "If it is lost, the data is lost" in warning
    assert told("add", "other")[0] == {"path": str(keys), "key": "other"}
    assert told("rotate", "orders")[0] == {"path": str(keys), "key": "orders", "version": "2"}
    gone, warning = told("destroy", "orders", "--version", "1", "--yes")
    assert gone == {"path": str(keys), "key": "orders", "version": "1"}
    assert "opens for nobody, ever again" in warning
    assert told("destroy", "other", "--yes")[0] == {"path": str(keys), "key": "other", "version": None}


def test_the_question_before_a_key_is_destroyed_is_not_in_the_way(kveil, key_path):
    result = kveil("keys", "destroy", "default", "--keys", key_path, "--in-use", "--json")
    assert result.exit_code == 1  # nobody answers
    assert result.stdout.strip() == ""
    assert "Type default to destroy it" in result.stderr


def test_users(kveil, tmp_path, monkeypatch):
    path = tmp_path / "users.json"
    for command, done in (("add", "added"), ("passwd", "changed"), ("remove", "removed")):
        monkeypatch.setattr("kveil.proxy.cli.users._read_password", lambda: PASSWORD)
        result = kveil("users", command, "alice", "--users", path, "--json")
        assert json.loads(result.stdout) == {"path": str(path), done: "alice"}
        assert "a-password" not in result.output


def test_the_version(kveil):
    assert f"kveil {json.loads(kveil('version', '--json').stdout)['version']}\n" == kveil("version").stdout


# That it is still at it -----------------------------------------------------------------------------------------------


def is_told() -> bool:
    return telling.THREAD in [thread.name for thread in threading.enumerate()]


@pytest.fixture
def told_again(monkeypatch) -> threading.Event:
    """Set once a line of progress was written, soon."""
    seen = threading.Event()
    echo = typer.echo

    def watch(text: str, **options: object) -> None:
        echo(text, **options)
        if "s so far" in text:
            assert options == {"err": True}
            seen.set()

    monkeypatch.setattr(telling, "PROGRESS_SECONDS", 0.05)
    monkeypatch.setattr(typer, "echo", watch)
    return seen


def test_what_takes_long_says_what_it_is_at(told_again, capsys):
    with telling.still_at("asking"):
        assert told_again.wait(SECONDS)
        assert is_told()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("kveil: asking: ")
    assert not is_told()


def test_what_is_done_at_once_says_nothing(capsys):
    with telling.still_at("asking"):
        pass
    assert capsys.readouterr() == ("", "")


def test_it_ends_with_what_fails():
    with pytest.raises(KeyError), telling.still_at("asking"):
        raise KeyError
    assert not is_told()


@pytest.mark.parametrize(
    "command",
    [("check", "--cluster"), ("prepare", "t"), ("migrate", "--mark", "t"), ("migrate", "a", "b", "--dry-run")],
    ids=" ".join,
)
def test_a_cluster_that_says_nothing_for_long(kveil, key_path: Path, told_again, command):
    """It takes a connection, and closes it when whoever waits was told."""
    with socket.create_server(("127.0.0.1", 0)) as broker:

        def serve() -> None:
            while True:
                try:
                    taken, _ = broker.accept()
                except OSError:
                    return
                with taken:
                    assert told_again.wait(SECONDS)

        server = threading.Thread(target=serve)
        server.start()
        upstream = f"127.0.0.1:{broker.getsockname()[1]}"
        result = kveil(*command, "--upstream", upstream, "--keys", key_path)
        broker.shutdown(socket.SHUT_RDWR)
        server.join(SECONDS)
    assert result.exit_code == 1, result.output
    assert "so far" in result.stderr
    assert result.stdout == ""
