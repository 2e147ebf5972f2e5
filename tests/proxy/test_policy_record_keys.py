"""Rules with a key per record key, and the topic on which those keys stand."""

import pytest

from kveil.proxy.config import load
from kveil.proxy.policy import OWN_PRINCIPAL, KeyRef, Policy, Use

RULE = "{match: people, mode: record, key: customers, key_per: record_key, erased: null}"


def policy_of(topics: str) -> Policy:
    return Policy(load(None, {"KVEIL_UPSTREAM__BOOTSTRAP": "a:1", "KVEIL_TOPICS": topics}))


def test_a_rule_carries_what_it_says():
    policy = policy_of(f"[{RULE}, {{match: b, mode: record, key: own, key_per: record_key}}]")
    rules = policy.rule_for("people"), policy.rule_for("b"), policy.rule_for("other")
    assert [rule.per_record_key for rule in rules] == [True, True, False]
    assert [rule.null_erased for rule in rules] == [True, False, False]


def test_the_key_topic_is_for_the_proxy_alone():
    """Also where a rule covers every name: who takes entries away takes records away."""
    policy = policy_of(f"[{RULE}, {{match: '*', key: rest}}]")
    rule = policy.rule_for("_kveil.keys")
    assert not rule.seal
    for use in Use:
        assert rule.admits(use, OWN_PRINCIPAL)
        for other in (None, "", "kveil", "alice"):
            assert not rule.admits(use, other)
    assert policy.matched_by("_kveil.keys") == "the key topic: for the proxy alone"


def test_without_record_keys_it_is_a_topic_as_any():
    policy = policy_of("[{match: a}]")
    assert not policy.any_record_keys
    assert policy.rule_for("_kveil.keys").seal
    assert policy.rule_for("_kveil.keys").admits(Use.PRODUCE, None)
    assert policy.matched_by("_kveil.keys") == "no rule: sealed"


@pytest.mark.parametrize("name", [OWN_PRINCIPAL, "kveil\0"])
def test_nobody_can_be_named_as_the_proxy_itself(name):
    assert not name.isprintable()


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (KeyRef(1, "customers"), True),
        (KeyRef(1, "old"), True),
        (KeyRef(1, "x-anything"), True),
        (KeyRef(1, "x-"), False),
        (KeyRef(2, "customers"), False),
        (KeyRef(1, "rest"), False),
        (KeyRef(1, "default"), False),
    ],
)
def test_which_keys_are_for_record_keys(key, expected):
    rules = [
        "{match: a, mode: record, key: customers, accept_keys: [old], key_per: record_key}",
        "{match: b, mode: record, key: 'x-{topic}', key_per: record_key}",
        "{match: c, key: rest}",
    ]
    assert policy_of(f"[{', '.join(rules)}]").is_for_record_keys(key) is expected
