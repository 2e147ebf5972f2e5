"""`kveil keys` and `kveil check` with each real key service: the key-hiding key is wrapped there, and found again."""

import json
from pathlib import Path

import pytest
import yaml

from kveil.proxy.keys.keyfile_store import read_key_file
from tests.support.key_services import KEY_SERVERS, start_key_server

SERVICES = [name for name in KEY_SERVERS if name != "keyfile"]


@pytest.fixture(scope="module", params=SERVICES)
def server(request, tmp_path_factory):
    with start_key_server(request.param, tmp_path_factory.mktemp(request.param)) as started:
        yield started


@pytest.fixture
def config(server, tmp_path, request) -> Path:
    """A configuration whose topics are in record mode, under a key that no other test has."""
    key = f"key-{abs(hash(request.node.name))}"
    server.make_key(key)
    path = tmp_path / "kveil.yaml"
    section = {**server.keys_settings(), "path": str(tmp_path / "keys.json"), "default": key}
    topics = [{"match": "*", "mode": "record"}]
    path.write_text(
        yaml.safe_dump({"upstream": {"bootstrap": "a:1"}, "realm": "lab", "keys": section, "topics": topics})
    )
    return path


def key_of(config: Path) -> str:
    return yaml.safe_load(config.read_text())["keys"]["default"]


def test_a_key_hiding_key_is_made_and_found_again(kveil, config, tmp_path):
    assert "kveil keys init" in kveil("check", "-c", config).stderr
    made = kveil("keys", "init", "-c", config)
    assert made.exit_code == 0, made.stderr
    content, _ = read_key_file(tmp_path / "keys.json")
    assert (content.realm, content.keys) == ("lab", ())
    assert content.key_hiding_key.block.name == key_of(config)
    checked = kveil("check", "-c", config)
    assert checked.exit_code == 0, checked.stderr


def test_it_outlives_a_rotation_and_not_its_key(kveil, config, server):
    assert kveil("keys", "init", "-c", config).exit_code == 0
    server.rotate(key_of(config))
    assert kveil("check", "-c", config).exit_code == 0
    server.disable(key_of(config))
    refused = kveil("check", "-c", config)
    assert refused.exit_code == 2
    assert "the key-hiding key can't be had: " in refused.stderr


def test_the_versions_are_listed(kveil, config, server):
    before = json.loads(kveil("keys", "list", "-c", config, "--json").stdout)["keys"]
    server.rotate(key_of(config))
    (key,) = json.loads(kveil("keys", "list", "-c", config, "--json").stdout)["keys"]
    assert key["name"] == before[0]["name"] == key_of(config)
    if server.has_versions:
        assert key["versions"] == [*before[0]["versions"], {"version": key["primary"]}]
        assert key["primary"] != before[0]["primary"]
    assert " seals" in kveil("keys", "list", "-c", config).stdout
