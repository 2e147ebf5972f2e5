"""From settings to announced keys, beside keys of other providers or alone."""

from pathlib import Path

import pytest

from kveil.protocol.envelope import registry
from kveil.protocol.identity import CONTROL_TOPIC
from kveil.proxy.admin.metrics import Metrics
from kveil.proxy.admin.survey import Survey
from kveil.proxy.config import load
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.keys.announced import AnnouncedKeys
from kveil.proxy.keys.errors import KeySetupError
from kveil.proxy.keys.keyfile import new_key_file
from kveil.proxy.keys.keyfile_store import create_key_file
from kveil.proxy.keys.opening import check_keys, open_announced_keys, open_key_ring
from kveil.proxy.keys.realm import Realm
from kveil.proxy.policy import OWN_PRINCIPAL, Policy, Use
from kveil.proxy.reload import make_fresh, put_in_place
from kveil.proxy.server import share
from tests.support.realm import consumes


@pytest.fixture
def node(world) -> Path:
    return world.members.path(world.members.join("billing", consumes()))


@pytest.fixture
def settings(node, tmp_path):
    def make(**variables):
        given = {
            "UPSTREAM__BOOTSTRAP": "127.0.0.1:1",
            "KEYS__PROVIDER": "identities",
            "KEYS__PATH": str(tmp_path / "keys.json"),
            "IDENTITY__PATH": str(node),
        }
        return load(None, {f"KVEIL_{name}": value for name, value in {**given, **variables}.items()})

    return make


def realm_of(settings):
    return check_keys(settings, Policy(settings))


def test_the_realm_is_the_one_that_the_node_was_enrolled_in(settings):
    assert realm_of(settings()).name == "demo"
    assert realm_of(settings(REALM="demo")).name == "demo"
    with pytest.raises(KeySetupError, match="belongs to demo"):
        realm_of(settings(REALM="other"))


def test_record_mode_needs_no_key_file(settings, tmp_path):
    """The authority hands out what hides records' keys; where a key file of the realm has it too, that is looked at."""
    hides = settings(TOPICS="[{match: a, mode: record}]")
    assert realm_of(hides) == Realm(name="demo", hiding_key=None, has_authority=True)
    shared = share(hides)
    assert (shared.keys.awaits_hiding_key, shared.keys.hiding_key_id) == (True, None)
    create_key_file(tmp_path / "keys.json", new_key_file(realm="demo"))
    assert realm_of(hides).hiding_key is not None
    assert share(hides).keys.awaits_hiding_key


def test_a_reload_keeps_the_authority(settings, tmp_path):
    shared = share(settings())
    for limits in ("1", "2"):
        fresh = make_fresh(shared, settings(LIMITS__EPOCH_KEY_HOURS=limits), tries_keys=False)
        assert fresh.keys is not None
        put_in_place(shared, fresh)
        assert shared.keys is fresh.keys
        assert shared.keys.awaits_hiding_key


def test_a_key_file_of_another_realm_is_nobodys(settings, tmp_path):
    create_key_file(tmp_path / "keys.json", new_key_file(realm="other"))
    assert realm_of(settings()).hiding_key is None
    with pytest.raises(KeySetupError, match="one process has one realm"):
        realm_of(settings(TOPICS="[{match: a, key: 'keyfile:default'}]"))


def test_both_kinds_live_in_one_process(settings, tmp_path):
    create_key_file(tmp_path / "keys.json", new_key_file(realm="demo"))
    mixed = settings(KEYS__PROVIDER="keyfile", TOPICS="[{match: a, key: 'identities:{topic}'}]")
    shared = share(mixed)
    rule_a, rule_b = (shared.policy.rule_for(topic) for topic in "ab")
    assert shared.sealing_keys(rule_a.key.provider) is shared.announced_keys
    assert shared.sealing_keys(rule_b.key.provider) is shared.keys
    assert shared.keys_for(registry.ANNOUNCED) is shared.announced_keys
    assert shared.keys_for(registry.KEY_FILE) is shared.keys
    assert set(shared.keys.providers) == {registry.KEY_FILE}


def test_nobody_has_them_where_no_rule_names_them(settings, tmp_path):
    create_key_file(tmp_path / "keys.json", new_key_file(realm="other"))
    shared = share(settings(KEYS__PROVIDER="keyfile"))
    assert shared.announced_keys is None
    assert shared.keys_for(registry.ANNOUNCED) is shared.keys


@pytest.mark.parametrize("name", ["identity.json", "membership.json", "checkpoint.json"])
def test_a_file_that_is_missing_is_told_before_a_port_is_bound(settings, node, name):
    (node / name).unlink()
    with pytest.raises(IdentityError, match=rf"{name}.*kveil enroll"):
        realm_of(settings())


def test_a_passphrase_that_is_not_the_keys(settings, tmp_path):
    (tmp_path / "passphrase").write_text("secret")
    with pytest.raises(IdentityError, match="isn't protected by a passphrase"):
        realm_of(settings(IDENTITY__PASSPHRASE=f"file:{tmp_path / 'passphrase'}"))


def test_the_control_topic_is_for_the_proxy_alone(settings):
    policy = Policy(settings())
    rule = policy.rule_for(CONTROL_TOPIC)
    assert not rule.seal
    for use in Use:
        assert rule.admits(use, OWN_PRINCIPAL)
        assert not rule.admits(use, None)
        assert not rule.admits(use, "admin")
    assert "control topic" in policy.matched_by(CONTROL_TOPIC)


def test_no_process_takes_a_chain_before_it_produces(settings, node):
    made = settings()
    assert isinstance(open_announced_keys(made, Policy(made)), AnnouncedKeys)
    open_key_ring(made, Policy(made), Metrics())
    assert not list(node.glob("chain-*"))


def test_what_can_be_told_of_them(settings):
    samples = Survey(share(settings()), None, []).samples()
    assert samples["kveil_announcements_total"] == 0
    assert samples['kveil_identity_alarms{kind="fork"}'] == 0
    assert "kveil_checkpoint_expiry_timestamp_seconds" not in samples, "none was seen yet"
