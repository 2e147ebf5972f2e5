"""`kveil check`: is the configuration usable, and what would happen to a topic."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def config(tmp_path: Path, key_path: Path) -> Path:
    path = tmp_path / "kveil.yaml"
    path.write_text(
        f"""
upstream: {{bootstrap: [a:9092, b:9092], tls: {{}}}}
keys: {{path: {key_path}}}
presets: [connect]
topics:
  - {{match: "metrics.*", seal: none}}
  - {{match: "old.*", mode: batch, accept_plain: true, accept_keys: [retired]}}
"""
    )
    return path


@pytest.fixture(autouse=True)
def retired_key(kveil, key_path):
    assert kveil("keys", "add", "retired", "--keys", key_path).exit_code == 0


def test_a_good_configuration(kveil, config, key_path):
    result = kveil("check", "-c", config)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "The configuration can be used.",
        f"realm test, keys in {key_path}",
        "listener 127.0.0.1:5000, both",
        "upstream a:9092, b:9092, TLS 1.2 or later",
    ]


def test_what_would_happen_to_a_topic(kveil, config):
    topics = ["orders", "metrics.cpu", "old.x", "connect-configs", "__consumer_offsets"]
    result = kveil("check", "-c", config, *topics)
    also = "opens keyfile:retired too, plain records are read too"
    assert result.stdout.splitlines()[4:] == [
        "orders: sealed, mode auto, key keyfile:default (no rule: sealed)",
        "metrics.cpu: PLAIN (topics[0] metrics.*)",
        f"old.x: sealed, mode batch, key keyfile:default, {also} (topics[1] old.*)",
        "connect-configs: PLAIN (preset connect)",
        "__consumer_offsets: PLAIN (internal topic)",
    ]


def test_the_same_for_machines(kveil, config):
    result = kveil("check", "-c", config, "--json", "old.x", "metrics.cpu")
    found = json.loads(result.stdout)
    assert found["ok"] is True
    assert found["realm"] == "test"
    sealed, plain = found["topics"]
    assert sealed == {
        "topic": "old.x",
        "decided_by": "topics[1] old.*",
        "sealed": True,
        "mode": "batch",
        "key": "keyfile:default",
        "accept_keys": ["keyfile:default", "keyfile:retired"],
        "accept_plain": True,
        "plain_before": {},
    }
    assert (plain["sealed"], plain["mode"], plain["key"], plain["accept_keys"]) == (False, None, None, [])


def test_flags_count_too(kveil, key_path):
    result = kveil("check", "--upstream", "a:1", "--keys", key_path, "--listen", "[::1]:7000")
    assert result.exit_code == 0
    assert "listener [::1]:7000, both" in result.stdout
    assert "upstream a:1, without TLS" in result.stdout


def test_every_problem_is_told(kveil, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("topics: [{match: a, mode: records}]\nlimits: {frame_byte: 1}\n")
    result = kveil("check", "-c", path)
    assert result.exit_code == 2
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        "upstream.bootstrap",
        "topics[0].mode",
        "limits.frame_byte",
    ]
    assert result.stdout == ""


def test_every_problem_for_machines(kveil, tmp_path):
    result = kveil("check", "--json", "--log-level", "x")
    assert result.exit_code == 2  # check has no such option
    path = tmp_path / "bad.yaml"
    path.write_text("realm: 5\n")
    result = kveil("check", "-c", path, "--json")
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert found["ok"] is False
    assert [problem["path"] for problem in found["problems"]] == ["upstream.bootstrap", "realm"]


@pytest.mark.parametrize("as_json", [True, False])
def test_keys_are_checked_too(kveil, config, key_path, as_json):
    config.write_text(config.read_text() + "  - {match: eu, key: eu}\n")
    result = kveil("check", "-c", config, *(["--json"] if as_json else []))
    assert result.exit_code == 2
    if as_json:
        (problem,) = json.loads(result.stdout)["problems"]
        assert problem["path"] == "keys"
        assert "has no key eu: `kveil keys add eu` makes it" in problem["text"]
    else:
        assert "has no key eu: `kveil keys add eu` makes it" in result.stderr
    key_path.unlink()
    result = kveil("check", "-c", config)
    assert result.exit_code == 2
    assert "kveil keys init" in result.stderr


def test_the_cluster_is_asked_for_nobody_in_particular(kveil, config):
    result = kveil("check", "-c", config, "--cluster", "--as", "billing")
    assert result.exit_code == 2
    assert "--cluster is about keys" in result.stderr


def test_a_cluster_that_does_not_answer(kveil, config):
    config.write_text(config.read_text().replace("bootstrap: [a:9092, b:9092], tls: {}", "bootstrap: ['127.0.0.1:1']"))
    result = kveil("check", "-c", config, "--cluster")
    assert result.exit_code == 1
    assert "kveil: the cluster can't be reached" in result.stderr
    assert result.stdout == ""
