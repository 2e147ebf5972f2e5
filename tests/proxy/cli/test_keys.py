"""`kveil keys`: made once, listed without secrets, grown without loss."""

import json
import os
import stat
from pathlib import Path

import pytest

from kveil.proxy.keys.keyfile_store import read_key_file


def test_init_makes_a_usable_file_and_says_what_losing_it_means(kveil, tmp_path):
    path = tmp_path / "sub" / "keys.json"
    result = kveil("keys", "init", "--keys", path)
    assert result.exit_code == 0, result.stderr
    content, _ = read_key_file(path)
    assert [key.name for key in content.keys] == ["default"]
    assert f"Made {path}" in result.stdout
    assert f"realm: {content.realm}" in result.stdout
    assert "If it is lost, the data is lost" in result.stdout
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_init_takes_a_realm_and_names(kveil, tmp_path):
    path = tmp_path / "keys.json"
    flags = ["--realm", "production", "--key", "eu", "--key", "us"]
    assert kveil("keys", "init", "--keys", path, *flags).exit_code == 0
    content, _ = read_key_file(path)
    assert content.realm == "production"
    assert [key.name for key in content.keys] == ["eu", "us"]


def test_init_never_overwrites(kveil, key_path):
    before = key_path.read_bytes()
    result = kveil("keys", "init", "--keys", key_path)
    assert result.exit_code == 2
    assert "was left alone" in result.stderr
    assert result.stdout == ""
    assert key_path.read_bytes() == before


@pytest.mark.parametrize("flags", [["--realm", "a b"], ["--realm", ""], ["--key", "-"], ["--key", "a", "--key", "a"]])
def test_init_refuses_what_can_not_be(kveil, tmp_path, flags):
    path = tmp_path / "keys.json"
    result = kveil("keys", "init", "--keys", path, *flags)
    assert result.exit_code == 2
    assert result.stderr.startswith("kveil: ")
    assert not path.exists()


def test_init_where_nothing_can_be_written(kveil, tmp_path):
    (tmp_path / "file").write_text("")
    result = kveil("keys", "init", "--keys", tmp_path / "file" / "keys.json")
    assert result.exit_code == 2
    assert "can't be written: " in result.stderr


def test_init_and_run_agree_on_the_default(kveil, served, monkeypatch, tmp_path):
    monkeypatch.setattr("kveil.proxy.config.paths.SYSTEM_KEY_PATH", tmp_path / "var" / "keys.json")
    assert kveil("keys", "init").exit_code == 0
    assert kveil("run", "--upstream", "a:1").exit_code == 0
    assert served[0].keys.path.exists()
    assert tmp_path in served[0].keys.path.parents


def test_the_path_may_come_from_a_variable_or_a_file(kveil, tmp_path, monkeypatch):
    config = tmp_path / "kveil.yaml"
    config.write_text(f"keys: {{path: {tmp_path}/from-file.json}}\n")
    assert kveil("keys", "init", "-c", config).exit_code == 0
    assert (tmp_path / "from-file.json").exists()
    monkeypatch.setenv("KVEIL_KEYS__PATH", str(tmp_path / "from-env.json"))
    assert kveil("keys", "init", "-c", config).exit_code == 0
    assert (tmp_path / "from-env.json").exists()
    assert kveil("keys", "init", "-c", config, "--keys", tmp_path / "from-flag.json").exit_code == 0
    assert (tmp_path / "from-flag.json").exists()


def test_list_shows_names_and_versions(kveil, key_path):
    kveil("keys", "rotate", "--keys", key_path)
    result = kveil("keys", "list", "--keys", key_path)
    assert result.exit_code == 0
    assert "realm: test" in result.stdout
    lines = [line for line in result.stdout.splitlines() if line.startswith("key ")]
    assert [(line.split()[1], line.split()[3], line.split("Z  ")[1]) for line in lines] == [
        ("default", "1", "opens only"),
        ("default", "2", "seals"),
    ]


def test_list_for_machines(kveil, key_path):
    result = kveil("keys", "list", "--keys", key_path, "--json")
    found = json.loads(result.stdout)
    content, _ = read_key_file(key_path)
    assert found["path"] == str(key_path)
    assert found["realm"] == "test"
    assert found["key_hiding_key"]["id"] == content.key_hiding_key.id.hex()
    ((key),) = found["keys"]
    assert (key["name"], key["primary"]) == ("default", "1")
    assert [one["version"] for one in key["versions"]] == ["1"]


def secrets_of(path: Path) -> list[str]:
    document = json.loads(path.read_text())
    versions = [one["secret"] for key in document["keys"] for one in key["versions"]]
    return [*versions, document["key_hiding_key"]["secret"]]


def test_nothing_that_is_printed_shows_a_key(kveil, key_path):
    shown = ""
    for arguments in (
        ["list"],
        ["list", "--json"],
        ["rotate"],
        ["add", "eu"],
        ["rotate", "eu"],
        ["init"],
        ["rotate", "x"],
    ):
        result = kveil("keys", *arguments, "--keys", key_path)
        shown += result.stdout + result.stderr
    secrets = secrets_of(key_path)
    assert len(secrets) == 5
    assert not any(secret in shown for secret in secrets)


def test_rotate_adds_a_version_and_says_what_to_do(kveil, key_path):
    before = secrets_of(key_path)
    result = kveil("keys", "rotate", "--keys", key_path)
    assert result.exit_code == 0
    assert "version 2 from now on" in result.stdout
    assert "Copy it to all others" in result.stdout
    assert set(before) < set(secrets_of(key_path))


def test_rotate_names_the_keys_that_there_are(kveil, key_path):
    result = kveil("keys", "rotate", "eu", "--keys", key_path)
    assert result.exit_code == 2
    assert "there are: default" in result.stderr


def test_add_makes_a_key_once(kveil, key_path):
    assert kveil("keys", "add", "eu", "--keys", key_path).exit_code == 0
    assert [key.name for key in read_key_file(key_path)[0].keys] == ["default", "eu"]
    result = kveil("keys", "add", "eu", "--keys", key_path)
    assert result.exit_code == 2
    assert "kveil keys rotate eu" in result.stderr


@pytest.mark.parametrize("arguments", [["list"], ["rotate"], ["add", "eu"]])
def test_without_a_file_the_way_out_is_told(kveil, tmp_path, arguments):
    result = kveil("keys", *arguments, "--keys", tmp_path / "nope.json")
    assert result.exit_code == 2
    assert "kveil keys init" in result.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("arguments", [["list"], ["rotate"], ["add", "eu"]])
def test_an_unsafe_file_is_refused(kveil, key_path, arguments):
    key_path.chmod(0o644)
    result = kveil("keys", *arguments, "--keys", key_path)
    assert result.exit_code == 2
    assert f"chmod 600 {key_path}" in result.stderr


def test_wrong_use(kveil):
    assert kveil("keys").exit_code == 2
    assert kveil("keys", "destroy").exit_code == 2
    assert kveil("keys", "add").exit_code == 2
