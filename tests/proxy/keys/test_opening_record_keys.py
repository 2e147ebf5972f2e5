"""Record keys' keys from the settings: only where a rule asks for them, and never without a key-hiding key."""

import pytest

from kveil.proxy.config import load
from kveil.proxy.keys import opening
from kveil.proxy.keys.errors import KeySetupError
from kveil.proxy.keys.opening import check_keys, open_key_ring, open_record_keys
from kveil.proxy.keys.realm import Realm
from kveil.proxy.policy import Policy

RULE = "[{match: a, mode: record, key: eu, key_per: record_key}]"


def settings_with(path, **variables: str):
    environ = {f"KVEIL_{name}": value for name, value in variables.items()}
    return load(None, {"KVEIL_UPSTREAM__BOOTSTRAP": "a:1", "KVEIL_KEYS__PATH": str(path), **environ})


def opened(settings):
    policy = Policy(settings)
    return open_record_keys(settings, policy, open_key_ring(settings, policy, metrics=None))


async def test_only_where_a_rule_asks_for_them(path):
    assert opened(settings_with(path)) is None
    keys = opened(settings_with(path, TOPICS=RULE, LIMITS__RECORD_KEYS="5"))
    assert keys.store.has_room(5)
    assert not keys.store.has_room(6)
    assert not keys.is_current


@pytest.mark.parametrize("start", [opened, lambda settings: check_keys(settings, Policy(settings))])
def test_without_a_key_hiding_key(path, monkeypatch, start):
    """Keys in a service, and no key file."""
    settings = settings_with(path, TOPICS=RULE)
    monkeypatch.setattr(opening, "open_realm", lambda settings, policy: Realm(name="test", hiding_key=None))
    with pytest.raises(KeySetupError, match="kveil keys init"):
        start(settings)
