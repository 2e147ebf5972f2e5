"""`kveil keys destroy`: asked for by name, told what is lost, and never the wrong one."""

import json
import os
import pwd

import pytest
from typer.testing import CliRunner

from kveil.proxy.cli import app
from kveil.proxy.keys.keyfile_store import read_key_file


@pytest.fixture
def eu(kveil, key_path):
    """A key that no rule names, in three versions."""
    assert kveil("keys", "add", "eu", "--keys", key_path).exit_code == 0
    for _ in range(2):
        assert kveil("keys", "rotate", "eu", "--keys", key_path).exit_code == 0
    return key_path


def typed(text: str, *arguments: object):
    """The command with something typed into it."""
    return CliRunner().invoke(app, ["keys", "destroy", *map(str, arguments)], input=text, prog_name="kveil")


def versions(path) -> dict[str, list[str]]:
    return {key.name: [one.version for one in key.versions] for key in read_key_file(path)[0].keys}


def test_a_key_goes_when_its_name_is_typed(eu):
    before = json.loads(eu.read_text())
    result = typed("eu\n", "eu", "--keys", eu)
    assert result.exit_code == 0, result.stderr
    assert "opens for nobody, ever again" in result.stdout
    assert "backups" in result.stdout
    assert versions(eu) == {"default": ["1"]}
    assert not any(one["secret"] in eu.read_text() for one in before["keys"][1]["versions"])
    assert [entry.name for entry in eu.parent.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("text", ["", "\n", "yes\n", "EU\n", "eu2\n"])
def test_it_stays_when_anything_else_is_typed(eu, text):
    before = eu.read_bytes()
    assert typed(text, "eu", "--keys", eu).exit_code != 0
    assert eu.read_bytes() == before


def test_a_script_need_not_type(kveil, eu):
    assert kveil("keys", "destroy", "eu", "--yes", "--keys", eu).exit_code == 0
    assert versions(eu) == {"default": ["1"]}


def test_the_decision_can_be_audited(kveil, eu):
    result = kveil("keys", "destroy", "eu", "--yes", "--keys", eu, "--version", "2")
    event = json.loads(result.stderr)["cloudevent"]
    assert (event["type"], event["subject"]) == ("io.kveil.key.destroyed", "eu")
    user = pwd.getpwuid(os.getuid()).pw_name
    who = {"principal": user, "operation": "kveil keys destroy"}
    assert event["data"] == {**who, "path": str(eu), "version": "2"}


def test_one_retired_version_goes_alone(kveil, eu):
    assert kveil("keys", "destroy", "eu", "--yes", "--keys", eu, "--version", "2").exit_code == 0
    assert versions(eu) == {"default": ["1"], "eu": ["1", "3"]}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["eu", "--version", "3"], "the one that seals"),
        (["eu", "--version", "9"], "no version 9; there are: 1, 2, 3"),
        (["us"], "no key us; there are: default, eu"),
        (["default"], "--in-use"),
    ],
)
def test_what_must_stay_is_not_asked_about(eu, arguments, reason):
    before = eu.read_bytes()
    result = typed("eu\nus\ndefault\n", *arguments, "--keys", eu)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stdout == ""
    assert eu.read_bytes() == before


def test_a_key_that_rules_name_goes_only_on_purpose(kveil, eu, tmp_path):
    config = tmp_path / "kveil.yaml"
    config.write_text(
        f"keys: {{path: {eu}, default: other}}\ntopics: [{{match: a, key: default, accept_keys: [eu]}}]\n"
    )
    assert "default still seals" in kveil("keys", "destroy", "default", "--yes", "-c", config).stderr
    assert "eu still opens" in kveil("keys", "destroy", "eu", "--yes", "-c", config).stderr
    assert kveil("keys", "destroy", "eu", "--yes", "--in-use", "-c", config).exit_code == 0
    assert versions(eu) == {"default": ["1"]}


def test_the_last_key_may_go(kveil, key_path):
    assert kveil("keys", "destroy", "default", "--yes", "--in-use", "--keys", key_path).exit_code == 0
    assert versions(key_path) == {}
    assert kveil("keys", "add", "new", "--keys", key_path).exit_code == 0
    assert kveil("keys", "list", "--keys", key_path).exit_code == 0
