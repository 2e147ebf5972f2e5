"""Which topic gets what."""

import pytest

from kveil.proxy import policy as policy_module
from kveil.proxy.config import Mode, StubCodec, load
from kveil.proxy.policy import INTERNAL_TOPICS, OWN_PRINCIPAL, KeyRef, Policy, Rule, Use


def policy_of(**variables: str) -> Policy:
    environ = {f"KVEIL_{name}": value for name, value in variables.items()}
    return Policy(load(None, {"KVEIL_UPSTREAM__BOOTSTRAP": "a:1", **environ}))


SEALED = Rule(
    seal=True,
    mode=Mode.AUTO,
    key=KeyRef(1, "default"),
    accept_keys=frozenset({KeyRef(1, "default")}),
    accept_plain=False,
    stub_codec=StubCodec.AUTO,
    sealed_as=None,
)


@pytest.mark.parametrize("topic", ["orders", "_schemas", "connect-configs", "__consumer_offset", "_kveil.control", "*"])
def test_a_topic_that_no_rule_names_is_sealed(topic):
    assert policy_of().rule_for(topic) == SEALED


def test_exactly_four_internal_topics_are_plain_without_a_rule():
    expected = {"__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"}
    assert expected == INTERNAL_TOPICS
    policy = policy_of()
    assert all(not policy.rule_for(topic).seal for topic in expected)
    assert policy.rule_for("__consumer_offsets2").seal
    assert policy.rule_for("__Consumer_Offsets").seal


def test_the_first_rule_that_matches_decides():
    policy = policy_of(TOPICS="[{match: 'a.b', key: one}, {match: 'a.*', key: two}, {match: '*.b', key: three}]")
    assert policy.rule_for("a.b").key.name == "one"
    assert policy.rule_for("a.c").key.name == "two"
    assert policy.rule_for("c.b").key.name == "three"
    assert policy.rule_for("c.d").key.name == "default"


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("orders", ["orders"], ["orders2", "xorders", "Orders", "ORDERS"]),
        ("orders.*", ["orders.", "orders.eu"], ["orders", "ordersXeu", "my.orders.eu"]),
        ("*.pii", ["a.pii", ".pii", "a.b.pii"], ["pii", "a.pii2"]),
        ("t?", ["t1", "t."], ["t", "t12"]),
        ("t[0-9]", ["t0", "t9"], ["ta", "t"]),
        ("t[!0-9]", ["ta"], ["t0"]),
    ],
)
def test_a_pattern_covers_the_whole_name_in_its_case(pattern, yes, no):
    policy = policy_of(TOPICS=f"[{{match: '{pattern}', seal: none}}]")
    assert [topic for topic in yes if policy.rule_for(topic).seal] == []
    assert [topic for topic in no if not policy.rule_for(topic).seal] == []


def test_a_rule_carries_what_it_says():
    policy = policy_of(
        TOPICS="[{match: m, mode: batch, key: eu, accept_keys: [old], accept_plain: true, stub_codec: none,"
        " sealed_as: {topic: origin}}]"
    )
    assert policy.rule_for("m") == Rule(
        seal=True,
        mode=Mode.BATCH,
        key=KeyRef(1, "eu"),
        accept_keys=frozenset({(1, "eu"), (1, "old")}),
        accept_plain=True,
        stub_codec=StubCodec.NONE,
        sealed_as="origin",
    )


def test_plain_before_is_by_partition():
    rule = policy_of(TOPICS="[{match: m, plain_before: {0: 1200, 3: 7}}]").rule_for("m")
    assert rule.plain_before == {0: 1200, 3: 7}
    assert hash(rule) == hash(rule)


def test_a_rule_does_not_accept_the_default_key_unless_it_says_so():
    assert policy_of(TOPICS="[{match: m, key: eu}]").rule_for("m").accept_keys == {(1, "eu")}


def test_presets_make_their_topics_plain_and_no_others():
    policy = policy_of(PRESETS="connect,schema-registry")
    for topic in ("connect-configs", "connect-offsets", "connect-status", "_schemas"):
        assert not policy.rule_for(topic).seal
    for topic in ("connect-config", "connect-offsets-2", "schemas", "_schemas2"):
        assert policy.rule_for(topic).seal


def test_a_rule_goes_before_presets_and_internal_topics():
    policy = policy_of(PRESETS="schema-registry", TOPICS="[{match: '_*'}]")
    assert policy.rule_for("_schemas").seal
    assert policy.rule_for("__consumer_offsets").seal


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"TOPICS": "[{match: a}]"}, False),
        ({"TOPICS": "[{match: a, accept_plain: true}]"}, False),
        ({"TOPICS": "[{match: a}, {match: b, seal: none}]"}, True),
        ({"PRESETS": "connect"}, True),
    ],
)
def test_whether_anything_is_plain_on_purpose(variables, expected):
    assert policy_of(**variables).any_plain is expected


VAULT = {"KEYS__VAULT": "{address: 'https://vault.example.net:8200', approle: {role_id: a, secret_id: 'env:HOME'}}"}


def names(keys) -> list[str]:
    return sorted(map(str, keys))


def test_the_keys_that_are_named():
    assert names(policy_of().named_keys) == ["keyfile:default"]
    policy = policy_of(TOPICS="[{match: a, key: x, accept_keys: [y]}, {match: b, seal: none}]")
    assert names(policy.named_keys) == ["keyfile:default", "keyfile:x", "keyfile:y"]
    assert names(policy.sealing_keys) == ["keyfile:default", "keyfile:x"]


def test_the_default_key_is_not_needed_where_a_rule_is_for_all_topics():
    policy = policy_of(TOPICS="[{match: a, seal: none}, {match: '*', key: x}]")
    assert names(policy.named_keys) == names(policy.sealing_keys) == ["keyfile:x"]
    assert names(policy_of(TOPICS="[{match: '*', seal: none}]").named_keys) == []
    assert names(policy_of(TOPICS="[{match: '*'}]").sealing_keys) == ["keyfile:default"]


def test_a_default_key_of_another_name():
    policy = policy_of(KEYS__DEFAULT="shop", TOPICS="[{match: a}, {match: b, key: x}]")
    assert names(policy.rule_for("a").accept_keys) == names(policy.rule_for("other").accept_keys) == ["keyfile:shop"]
    assert names(policy.rule_for("b").accept_keys) == ["keyfile:x"]


def test_a_template_is_another_key_for_each_topic():
    policy = policy_of(TOPICS="[{match: 'o*', key: 'k-{topic}', accept_keys: ['old-{topic}', older]}]")
    assert policy.rule_for("o1").key == KeyRef(1, "k-o1")
    assert names(policy.rule_for("o2").accept_keys) == ["keyfile:k-o2", "keyfile:old-o2", "keyfile:older"]
    assert names(policy.named_keys) == ["keyfile:default", "keyfile:older"]
    assert names(policy.sealing_keys) == ["keyfile:default"]


def test_a_mirror_s_template_speaks_of_the_origin():
    policy = policy_of(TOPICS="[{match: m, key: 'k-{topic}', sealed_as: {topic: origin}}]")
    assert names(policy.rule_for("m").accept_keys) == ["keyfile:k-origin"]


def test_keys_of_several_providers():
    policy = policy_of(KEYS__PROVIDER="vault", TOPICS="[{match: a, accept_keys: ['keyfile:old', new]}]", **VAULT)
    assert names(policy.rule_for("a").accept_keys) == ["keyfile:old", "vault:default", "vault:new"]
    assert policy.rule_for("a").key == (2, "default")
    assert policy.services == {"vault", "keyfile"}
    assert policy_of(KEYS__DEFAULT="vault:x", **VAULT).services == {"vault", "keyfile"}
    assert policy_of(**VAULT).services == {"keyfile"}


def test_a_provider_of_one_s_own():
    policy = policy_of(KEYS__PROVIDER="mine.hsm:Provider")
    assert policy.rule_for("a").key == (128, "default")
    assert policy.services == {"module"}


def test_a_decision_is_remembered(monkeypatch):
    policy = policy_of(TOPICS="[{match: a*}]")
    first = policy.rule_for("abc")
    monkeypatch.setattr(policy_module, "fnmatchcase", lambda *_: pytest.fail("matched again"))
    assert policy.rule_for("abc") is first


def test_the_memory_for_decisions_is_bounded(monkeypatch):
    monkeypatch.setattr(policy_module, "REMEMBERED_TOPICS", 10)
    policy = policy_of(TOPICS="[{match: 'plain*', seal: none}]")
    for number in range(100):
        assert policy.rule_for(f"t{number}").seal
        assert not policy.rule_for(f"plain{number}").seal
        assert len(policy._decided) <= 10


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("metrics.x", "topics[1] metrics.*"),
        ("a", "topics[0] a"),
        ("_schemas", "preset schema-registry"),
        ("__consumer_offsets", "internal topic"),
        ("other", "no rule: sealed"),
    ],
)
def test_what_decided_in_words(topic, words):
    policy = policy_of(TOPICS="[{match: a}, {match: 'metrics.*', seal: none}]", PRESETS="schema-registry")
    assert policy.matched_by(topic) == words


def test_skipped_offsets_by_partition():
    policy = policy_of(SKIP="a/0/20-29,a/0/5,a/1/7-8,b/0/1-2")
    assert policy.skips("a", 0) == (range(5, 6), range(20, 30))
    assert policy.skips("a", 1) == (range(7, 9),)
    assert policy.skips("a", 2) == ()
    assert policy.skips("c", 0) == ()


class TestWhoMay:
    RULES = "[{match: a, producers: [alice], consumers: []}, {match: b}, {match: c, seal: none, consumers: [bob]}]"

    @pytest.mark.parametrize(
        ("topic", "principal", "expected"),
        [
            ("a", "alice", [True, False]),
            ("a", "bob", [False, False]),
            ("a", None, [False, False]),
            ("b", "bob", [True, True]),
            ("b", None, [True, True]),
            ("c", "bob", [True, True]),
            ("c", None, [True, False]),
            ("unnamed", None, [True, True]),
        ],
    )
    def test_use_a_topic(self, topic, principal, expected):
        rule = policy_with_logins(self.RULES).rule_for(topic)
        assert [rule.admits(use, principal) for use in (Use.PRODUCE, Use.CONSUME)] == expected


def policy_with_logins(topics: str) -> Policy:
    return policy_of(TOPICS=topics, LISTENERS__0__SASL__USERS="/users.json")


class TestTheAuditsTopic:
    @pytest.fixture
    def policy(self):
        return policy_of(AUDIT__TOPIC="audit", TOPICS__0__MATCH="a*", TOPICS__0__KEY="eu")

    def test_is_sealed_and_read_as_its_rule_says(self, policy):
        rule = policy.rule_for("audit")
        assert (rule.seal, rule.key, rule.consumers) == (True, KeyRef(1, "eu"), None)

    def test_is_written_by_the_proxy_alone(self, policy):
        rule = policy.rule_for("audit")
        assert rule.admits(Use.PRODUCE, OWN_PRINCIPAL)
        assert not any(rule.admits(Use.PRODUCE, who) for who in ("ann", "", None))
        assert policy.rule_for("audits").admits(Use.PRODUCE, None)
