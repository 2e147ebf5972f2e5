"""Rules with a key per record key: what they need beside them."""

import pytest
import yaml

from kveil.proxy.config import ConfigError, Erased, KeyPer, load

RULE = {"match": "people.*", "mode": "record", "key": "customers", "key_per": "record_key"}


def loaded(tmp_path, *rules, **more):
    path = tmp_path / "kveil.yaml"
    path.write_text(yaml.safe_dump({"upstream": {"bootstrap": "a:1"}, "topics": list(rules), **more}))
    return load(path, {})


def problems(tmp_path, *rules, **more):
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, *rules, **more)
    return {problem.path: problem.text for problem in caught.value.problems}


def test_a_rule_that_is_right(tmp_path):
    (rule,) = loaded(tmp_path, {**RULE, "erased": "null"}).topics
    assert (rule.key_per, rule.erased) == (KeyPer.RECORD_KEY, Erased.NULL)


@pytest.mark.parametrize(
    ("text", "expected"), [("null", Erased.NULL), ("'null'", Erased.NULL), ("error", Erased.ERROR)]
)
def test_null_as_yaml_has_it(tmp_path, text, expected):
    path = tmp_path / "kveil.yaml"
    rule = f"{{match: a, mode: record, key: k, key_per: record_key, erased: {text}}}"
    path.write_text(f"upstream: {{bootstrap: a:1}}\ntopics: [{rule}]\n")
    assert load(path, {}).topics[0].erased is expected


@pytest.mark.parametrize("mode", ["auto", "batch"])
def test_record_mode_is_needed(tmp_path, mode):
    assert "mode: record" in problems(tmp_path, {**RULE, "mode": mode})["topics[0].key_per"]


@pytest.mark.parametrize("name", ["key_per", "erased"])
def test_a_plain_topic_has_no_keys(tmp_path, name):
    value = {"key_per": "record_key", "erased": "null"}[name]
    assert "seal: none" in problems(tmp_path, {"match": "a", "seal": "none", name: value})[f"topics[0].{name}"]


def test_what_has_no_meaning_without_it(tmp_path):
    assert "key_per" in problems(tmp_path, {"match": "a", "erased": "null"})["topics[0].erased"]


def test_a_mirror_has_no_record_keys(tmp_path):
    assert "topics[0].sealed_as" in problems(tmp_path, {**RULE, "sealed_as": {"topic": "x"}})


@pytest.mark.parametrize(
    ("rule", "others"),
    [
        ({}, [{"match": "b", "key": "customers"}]),
        ({}, [{"match": "b", "key": "new", "accept_keys": ["customers"]}]),
        ({"accept_keys": ["default"]}, []),
        ({"key": "default"}, []),
        ({"key": "x-{topic}"}, [{"match": "b", "key": "x-b"}]),
        ({"key": "x-b"}, [{"match": "b", "key": "x-{topic}"}]),
        ({}, [{"match": "b", "key": "{topic}"}]),
        ({"key": "keyfile:customers"}, [{"match": "b", "key": "customers"}]),
    ],
)
def test_its_key_is_nobody_elses(tmp_path, rule, others):
    """Erasing destroys the key's older versions, and with them what else they sealed."""
    found = problems(tmp_path, {**RULE, **rule}, *others)
    assert list(found) == ["topics[0].key"]
    assert "a key of its own" in found["topics[0].key"]


@pytest.mark.parametrize(
    ("rule", "others"),
    [
        ({"key": "default"}, [{"match": "*", "key": "rest"}]),
        ({}, [{"match": "b", "seal": "none"}]),
        ({}, [{**RULE, "match": "c"}]),
        ({"key": "x-{topic}"}, [{"match": "b", "key": "y-{topic}"}]),
        ({"key": "aws:customers"}, [{"match": "b", "key": "customers"}]),
    ],
)
def test_keys_that_are_apart(tmp_path, rule, others):
    assert loaded(tmp_path, {**RULE, **rule}, *others)


def test_the_limit(tmp_path):
    assert loaded(tmp_path).limits.record_keys == 1_000_000
    assert "limits.record_keys" in problems(tmp_path, limits={"record_keys": 0})
