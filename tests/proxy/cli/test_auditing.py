"""Commands that change keys and users say so in the audit, or do nothing where they can't and must."""

import json
import os
import pwd

import pytest
from typer.testing import CliRunner

from kveil.proxy.cli import app
from tests.support.cloudevents import check_event, events_in

PASSWORD = "correct-horse"
ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def config(tmp_path):
    """A configuration whose audit goes to a file too."""
    path = tmp_path / "kveil.yaml"
    path.write_text(
        f"keys: {{path: {tmp_path}/keys.json}}\naudit: {{required: true, file: {{path: {tmp_path}/logs/audit.log}}}}\n"
    )
    return path


@pytest.fixture
def logs(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


def run(config, *arguments):
    users = ["--users", config.with_name("users.json")] if arguments[0] == "users" else []
    command = [*arguments, *users, "-c", config]
    return CliRunner().invoke(app, list(map(str, command)), input=f"{PASSWORD}\n", prog_name="kveil")


CHANGES = [
    (["keys", "init"], "key.added", "default", {"path": "keys.json", "version": "1"}),
    (["keys", "add", "eu"], "key.added", "eu", {"path": "keys.json"}),
    (["keys", "rotate"], "key.rotated", "default", {"path": "keys.json", "version": "2"}),
    (["keys", "destroy", "eu", "--yes"], "key.destroyed", "eu", {"path": "keys.json", "version": None}),
    (["users", "add", "ann"], "user.added", "ann", {"path": "users.json"}),
    (["users", "passwd", "ann"], "user.changed", "ann", {"path": "users.json"}),
    (["users", "remove", "ann"], "user.removed", "ann", {"path": "users.json"}),
]


def test_every_change_is_in_the_log_and_in_the_file(config, logs):
    for arguments, kind, subject, data in CHANGES:
        result = run(config, *arguments)
        assert result.exit_code == 0, result.output
        event = check_event(json.loads(result.stderr.splitlines()[-1])["cloudevent"])
        assert (event["type"], event["subject"]) == (f"io.kveil.{kind}", subject)
        who = {"principal": ME, "operation": " ".join(["kveil", *arguments[:2]])}
        assert event["data"] == {**who, **data, "path": str(config.with_name(data["path"]))}
        assert events_in((logs / "audit.log").read_text())[-1] == event
        assert PASSWORD not in result.output
    assert len((logs / "audit.log").read_text().splitlines()) == len(CHANGES)
    assert PASSWORD not in (logs / "audit.log").read_text()


@pytest.mark.parametrize("arguments", [["keys", "init"], ["users", "add", "ann"]], ids=" ".join)
def test_without_the_file_that_is_required_nothing_is_made(config, arguments):
    result = run(config, *arguments)
    assert result.exit_code == 2
    assert "kveil: audit.file: takes no events, and audit.required is true: No such file or directory" in result.stderr
    assert sorted(each.name for each in config.parent.iterdir()) == ["kveil.yaml"]


@pytest.mark.parametrize("arguments", [change[0] for change in CHANGES[1:4]], ids=" ".join)
def test_nor_changed(config, logs, arguments):
    assert run(config, "keys", "init").exit_code == 0
    assert run(config, "keys", "add", "eu" if arguments[1] != "add" else "us").exit_code == 0
    before = config.with_name("keys.json").read_bytes()
    (logs / "audit.log").chmod(0o666)
    assert run(config, *arguments).exit_code == 2
    assert config.with_name("keys.json").read_bytes() == before


def test_what_is_refused_is_no_change(config, logs):
    assert run(config, "keys", "init").exit_code == 0
    assert run(config, "keys", "init").exit_code == 2
    assert len((logs / "audit.log").read_text().splitlines()) == 1
