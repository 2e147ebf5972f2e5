"""Settings of keys that identities announce."""

import pytest

from kveil.proxy.config import ConfigError, KeyName, KeyService, load

BASE = {"KVEIL_UPSTREAM__BOOTSTRAP": "a:1"}


def settings(**variables):
    return load(None, BASE | {f"KVEIL_{name}": value for name, value in variables.items()})


def problems(**variables):
    with pytest.raises(ConfigError) as error:
        settings(**variables)
    return str(error.value)


def test_the_one_key_is_the_topics():
    found = settings(KEYS__PROVIDER="identities")
    assert found.keys.service is KeyService.IDENTITIES
    assert found.keys.default == KeyName(provider=None, name="{topic}")
    named = settings(KEYS__PROVIDER="identities", KEYS__DEFAULT="identities:{topic}")
    assert named.keys.default.name == found.keys.default.name


@pytest.mark.parametrize(
    ("variables", "where"),
    [
        ({"KEYS__PROVIDER": "identities", "KEYS__DEFAULT": "shop"}, "keys.default"),
        ({"KEYS__PROVIDER": "identities", "TOPICS": "[{match: a, key: shop}]"}, r"topics[0].key"),
        ({"TOPICS": "[{match: a, key: 'identities:a'}]"}, "topics[0].key"),
        ({"TOPICS": "[{match: a, accept_keys: ['identities:x-{topic}']}]"}, "topics[0].accept_keys"),
    ],
)
def test_no_other_key_can_be_named(variables, where):
    told = problems(**variables)
    assert where in told
    assert "write identities:{topic}" in told


def test_they_may_stand_beside_another_provider():
    found = settings(TOPICS="[{match: a, key: 'identities:{topic}', accept_keys: [default]}]")
    assert found.keys.service is KeyService.KEYFILE
    assert found.topics[0].key.provider is KeyService.IDENTITIES


def test_record_keys_can_not_be_had_with_them():
    rule = "[{match: a, mode: record, key_per: record_key}]"
    assert "topics[0].key_per: can't be had with keys of identities" in problems(
        KEYS__PROVIDER="identities", TOPICS=rule
    )


@pytest.mark.parametrize(
    "rule",
    ["{match: a, sealed_by: [shop]}", "{match: a, key: 'identities:{topic}', accept_keys: [old], sealed_by: [shop]}"],
)
def test_whose_records_are_opened_is_a_question_for_identities_alone(rule):
    assert "topics[0].sealed_by: names identities" in problems(TOPICS=f"[{rule}]")


def test_a_rule_that_names_them():
    found = settings(KEYS__PROVIDER="identities", TOPICS="[{match: a, sealed_by: [shop, shop2]}]")
    assert found.topics[0].sealed_by == ("shop", "shop2")
