"""What differs between two configurations, and which of it takes a restart."""

import copy

import pytest

from kveil.proxy.config import Settings
from kveil.proxy.config.changes import MAY_CHANGE, changed_paths, restart_problems
from kveil.proxy.config.schema import config_keys
from tests.proxy.config.test_documentation import DOCS

BASE = {
    "upstream": {"bootstrap": ["a:1"]},
    "listeners": [{"address": "127.0.0.1:5000"}],
    "topics": [{"match": "orders"}, {"match": "metrics.*", "seal": "none"}],
}
SASL = {"mechanism": "PLAIN", "username": "u", "password": "env:HOME"}
RECORD_KEYS = {"match": "people", "mode": "record", "key_per": "record_key", "key": "people"}


def settings(**sections) -> Settings:
    return Settings.model_validate({**copy.deepcopy(BASE), **sections})


def refused(old: Settings, new: Settings) -> list[str]:
    return [problem.path for problem in restart_problems(old, new)]


def test_the_same_has_no_changes():
    assert changed_paths(settings(), settings()) == ()
    assert restart_problems(settings(), settings()) == []


def test_changes_are_named_not_shown():
    new = settings(
        topics=[{"match": "orders", "mode": "record", "plain_before": {3: 7}}, {"match": "secret.*", "seal": "none"}],
        keys={"options": {"token": "hunter2"}},
        log={"level": "debug"},
    )
    assert changed_paths(settings(), new) == (
        "keys.options.token",
        "log.level",
        "topics[0].mode",
        "topics[0].plain_before.3",
        "topics[1].match",
    )


def test_a_list_of_another_length_is_one_change():
    assert changed_paths(settings(), settings(topics=[{"match": "orders"}])) == ("topics",)


@pytest.mark.parametrize(
    "sections",
    [
        {"topics": []},
        {"presets": ["connect"]},
        {"skip": ["orders/0/1-2"]},
        {"keys": {"lazy": True, "vault": {"address": "https://vault:8200", "token": "env:HOME"}}},
        {"upstream": {"bootstrap": ["a:1"], "tls": {}}},
        {"upstream": {"bootstrap": ["a:1"], "proxy": "http://u@p:3128", "proxy_password": "env:HOME"}},
        {"limits": {"frame_bytes": 1_000_000, "epoch_key_hours": 1, "drain_seconds": 1}},
        {"log": {"level": "error"}},
    ],
    ids=str,
)
def test_what_a_running_proxy_takes_up(sections):
    assert changed_paths(settings(), settings(**sections))
    assert restart_problems(settings(), settings(**sections)) == []


@pytest.mark.parametrize(
    ("sections", "paths"),
    [
        ({"workers": 2}, ["workers"]),
        ({"realm": "other"}, ["realm"]),
        ({"log": {"format": "json", "level": "error"}}, ["log.format"]),
        ({"admin": {"address": "127.0.0.1:9600"}}, ["admin.address"]),
        ({"admin": {"socket": "/run/kveil.sock"}}, ["admin.socket"]),
        ({"upstream": {"bootstrap": ["b:1"]}}, ["upstream.bootstrap[0]"]),
        (
            {
                "upstream": {
                    "bootstrap": ["a:1"],
                    "sasl": {"mechanism": "PLAIN", "username": "u", "password": "env:HOME"},
                }
            },
            ["upstream.sasl"],
        ),
        ({"listeners": [{"address": "127.0.0.1:5001"}]}, ["listeners[0].address"]),
        ({"listeners": [{"direction": "consume"}]}, ["listeners[0].direction"]),
        ({"listeners": [{}, {"address": "127.0.0.1:7000"}]}, ["listeners"]),
        ({"limits": {"max_connections": 1}}, ["limits.max_connections"]),
        ({"topics": [RECORD_KEYS]}, ["topics"]),
    ],
    ids=str,
)
def test_what_takes_a_restart(sections, paths):
    assert refused(settings(), settings(**sections)) == paths
    assert refused(settings(**sections), settings()) == paths


def test_record_keys_hold_on_to_their_keys():
    """Their store was made with this key ring."""
    old = settings(topics=[RECORD_KEYS])
    assert refused(old, settings(topics=[RECORD_KEYS], keys={"lazy": True})) == ["keys.lazy"]
    assert refused(old, settings(topics=[RECORD_KEYS], limits={"opened_keys": 5})) == ["limits.opened_keys"]
    assert refused(old, settings(topics=[RECORD_KEYS, {"match": "more"}])) == []


# Below these the table speaks of the single keys.
WHOLE = {"upstream.sasl", "listeners[].tls", "listeners[].sasl"}


@pytest.mark.parametrize("key", [key.path for key in config_keys() if key.path not in WHOLE])
def test_what_may_change_is_documented(key):
    table = DOCS.read_text().split("## What a reload takes up")[1].split("\n## ")[0]
    rows = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")]
    named = [name for row in rows for name in row.split("`")[1::2] if name != "client_ca"]
    is_named = any(key == name or key.startswith((f"{name}.", f"{name}[")) for name in named)
    assert is_named == bool(MAY_CHANGE.match(key.replace("[]", "[0]")))
