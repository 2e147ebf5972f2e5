"""From the settings to a key ring, or to the reason why not."""

import pytest

from kveil.proxy.config import load
from kveil.proxy.keys.errors import KeyFileError
from kveil.proxy.keys.opening import open_key_ring, open_provider
from kveil.proxy.policy import Policy


def opened(path, **variables: str):
    environ = {f"KVEIL_{name}": value for name, value in variables.items()}
    settings = load(None, {"KVEIL_UPSTREAM__BOOTSTRAP": "a:1", "KVEIL_KEYS__PATH": str(path), **environ})
    return open_key_ring(settings, Policy(settings))


async def test_a_ring_that_seals(path):
    ring = opened(path)
    assert ring.realm == "test"


def test_the_realm_may_be_named(path):
    assert opened(path, REALM="test").realm == "test"


def test_another_realm_is_refused(path):
    with pytest.raises(KeyFileError, match=r"configuration says production.*belongs to test"):
        opened(path, REALM="production")


def test_keys_that_the_rules_name_must_be_there(path):
    assert opened(path, TOPICS="[{match: a, key: eu}]")
    with pytest.raises(KeyFileError, match=r"lacks what the rules name: old, us;"):
        opened(path, TOPICS="[{match: a, key: us, accept_keys: [old]}, {match: b, key: eu}]")


def test_keys_of_plain_rules_need_not_be_there(path):
    assert opened(path, TOPICS="[{match: a, seal: none}]")


def test_a_missing_file(tmp_path):
    with pytest.raises(KeyFileError, match="kveil keys init"):
        opened(tmp_path / "nope.json")


def test_the_limits_reach_the_ring(path):
    settings = load(
        None,
        {
            "KVEIL_UPSTREAM__BOOTSTRAP": "a:1",
            "KVEIL_KEYS__PATH": str(path),
            "KVEIL_LIMITS__OPENED_KEYS": "7",
        },
    )
    assert open_key_ring(settings, Policy(settings))._opened._entries == 7
    assert open_provider(settings, Policy(settings)).primary_version("default") == "1"
