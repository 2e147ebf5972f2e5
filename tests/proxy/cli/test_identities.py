"""Commands about keys, on a node whose keys are those of its identity."""

import json

import pytest
import yaml

from kveil.proxy.identity.node_files import NodeFiles
from tests.support.announced import Clock, World
from tests.support.proxy import kveil
from tests.support.realm import consumes


@pytest.fixture
def node(tmp_path):
    world = World(tmp_path, Clock())
    return world.members.path(world.members.join("billing", consumes()))


@pytest.fixture
def config(node, tmp_path):
    path = tmp_path / "kveil.yaml"
    content = {
        "upstream": {"bootstrap": "127.0.0.1:1"},
        "keys": {"provider": "identities", "path": str(tmp_path / "keys.json")},
        "identity": {"path": str(node)},
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_check_shows_the_realm_and_whose_keys_they_are(config, node):
    done = kveil("check", "orders", "-c", config)
    assert done.returncode == 0, done.stderr
    assert f"realm demo, keys in identities, this one's in {node}" in done.stdout
    assert "orders: sealed, mode auto, key identities:orders (no rule: sealed)" in done.stdout
    assert (
        "_kveil.control: PLAIN (the control topic: for the proxy alone)"
        in kveil("check", "_kveil.control", "-c", config).stdout
    )


def test_a_node_that_was_not_enrolled_is_told_how(config, node):
    (node / "membership.json").unlink()
    for command in ("check", "run"):
        done = kveil(command, "-c", config)
        assert done.returncode == 2
        assert "`kveil enroll` makes it" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_rotation_reaches_whoever_uses_the_directory(config, node):
    before = NodeFiles(node).rotation()
    done = kveil("keys", "rotate", "-c", config)
    assert done.returncode == 0, done.stderr
    assert "begin new epoch keys" in done.stdout
    after = NodeFiles(node).rotation()
    assert before != after
    kveil("keys", "rotate", "-c", config)
    assert NodeFiles(node).rotation() != after


def test_a_key_hiding_key_is_made_for_the_realm(config, tmp_path):
    done = kveil("keys", "init", "-c", config, "--realm", "other")
    assert done.returncode == 2
    assert "belongs to demo" in done.stderr
    done = kveil("keys", "init", "-c", config)
    assert done.returncode == 0, done.stderr
    listed = kveil("keys", "list", "-c", config, "--json")
    assert listed.returncode == 0, listed.stderr
    found = json.loads(listed.stdout)
    assert found["realm"] == "demo"
    assert found["templates"] == ["{topic}"]
    assert found["key_hiding_key"]


@pytest.mark.parametrize("command", ["run", "regrant"])
def test_a_keeper_without_an_identity(tmp_path, command):
    done = kveil("keeper", command, "--identity", str(tmp_path / "none"), "--upstream", "127.0.0.1:1")
    assert done.returncode == 2
    assert "membership.json: `kveil enroll` makes it" in done.stderr
