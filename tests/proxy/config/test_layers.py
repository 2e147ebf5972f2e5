"""Environment over file, flags over both."""

from pathlib import Path

import pytest

from kveil.proxy.config import ConfigError, Direction, HostPort, Override, load
from kveil.proxy.config.layers import environment, lay_over

BASE = {"KVEIL_UPSTREAM__BOOTSTRAP": "a:9092"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kveil.yaml"
    path.write_text(
        """
upstream: {bootstrap: [file:9092]}
log: {level: error}
listeners: [{address: 127.0.0.1:6000}]
topics: [{match: a}, {match: b, seal: none}]
"""
    )
    return path


def sentences(environ: dict[str, str], *overrides: Override, path: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ, overrides)
    return [str(problem) for problem in caught.value.problems]


def test_a_variable_is_laid_over_the_file(file):
    settings = load(file, {"KVEIL_LOG__LEVEL": "debug", "KVEIL_UPSTREAM__BOOTSTRAP": "env:1,other:2"})
    assert settings.log.level == "debug"
    assert [str(address) for address in settings.upstream.bootstrap] == ["env:1", "other:2"]
    assert settings.listeners[0].address.port == 6000


def test_a_flag_is_laid_over_a_variable(file):
    flag = Override(path=("log", "level"), value="warning", origin="--log-level")
    assert load(file, {"KVEIL_LOG__LEVEL": "debug"}, [flag]).log.level == "warning"


def test_the_environment_alone_is_enough():
    settings = load(
        None,
        {
            **BASE,
            "KVEIL_LISTENERS__0__ADDRESS": "127.0.0.1:7000",
            "KVEIL_LISTENERS__0__DIRECTION": "produce",
            "KVEIL_LISTENERS__1__ADDRESS": "127.0.0.1:8000",
            "KVEIL_BROKER_PORTS__COUNT": "10",
            "KVEIL_NODES__200": "9000",
            "KVEIL_LISTENERS__1__NODES": "{200: 9001}",
            "KVEIL_TOPICS__0__MATCH": "m.*",
            "KVEIL_TOPICS__0__ACCEPT_KEYS": "x,y",
            "KVEIL_TOPICS__0__ACCEPT_PLAIN": "true",
            "KVEIL_PRESETS": "connect, schema-registry",
            "KVEIL_SKIP": "a/0/1-2,b/1/3",
            "KVEIL_LIMITS__DRAIN_SECONDS": "2.5",
            "KVEIL_KEYS__PATH": "/k.json",
            "KVEIL_REALM": "here",
        },
    )
    assert settings.listeners[0].direction is Direction.PRODUCE
    assert settings.listeners[1].address == HostPort(host="127.0.0.1", port=8000)
    assert settings.nodes == {200: 9000}
    assert settings.node_ports(settings.listeners[1]) == {200: 9001}
    assert settings.broker_ports.count == 10
    assert tuple(map(str, settings.topics[0].accept_keys)) == ("x", "y")
    assert settings.topics[0].accept_plain is True
    assert [str(skip) for skip in settings.skip] == ["a/0/1-2", "b/1/3-3"]
    assert settings.limits.drain_seconds == 2.5
    assert settings.keys.path == Path("/k.json")
    assert settings.realm == "here"
    assert settings.presets == ("connect", "schema-registry")


def test_a_list_may_be_given_as_yaml():
    settings = load(None, {**BASE, "KVEIL_TOPICS": "[{match: a}, {match: b, seal: none}]"})
    assert [rule.match for rule in settings.topics] == ["a", "b"]


def test_a_variable_changes_one_entry_of_the_file_s_list(file):
    settings = load(file, {"KVEIL_TOPICS__1__SEAL": "batch"})
    assert [(rule.match, rule.seal) for rule in settings.topics] == [("a", "batch"), ("b", "batch")]


def test_places_are_filled_in_the_order_of_numbers():
    environ = {f"KVEIL_TOPICS__{n}__MATCH": f"t{n}" for n in range(12)}
    settings = load(None, {**BASE, **environ})
    assert [rule.match for rule in settings.topics] == [f"t{n}" for n in range(12)]


def test_a_gap_in_a_list_is_refused():
    (sentence,) = sentences({**BASE, "KVEIL_TOPICS__1__MATCH": "a"})
    assert sentence.startswith("KVEIL_TOPICS__1__MATCH: ")
    assert "the next is 0" in sentence


def test_tls_can_be_switched_on_and_off(tmp_path):
    path = tmp_path / "kveil.yaml"
    path.write_text("upstream: {bootstrap: [a:1], tls: {min_version: '1.3'}}")
    assert load(path, {"KVEIL_UPSTREAM__TLS": "null"}).upstream.tls is None
    assert load(None, {**BASE, "KVEIL_UPSTREAM__TLS": "{}"}).upstream.tls is not None
    assert load(None, {**BASE, "KVEIL_UPSTREAM__TLS__MIN_VERSION": "1.3"}).upstream.tls is not None


def test_only_if_null_leaves_what_is_there():
    tree = {"upstream": {"tls": {"ca": "x"}}}
    override = Override(path=("upstream", "tls"), value={}, origin="--tls", only_if_null=True)
    assert lay_over(tree, override) is None
    assert tree == {"upstream": {"tls": {"ca": "x"}}}
    tree = {"upstream": {"tls": None}}
    lay_over(tree, override)
    assert tree == {"upstream": {"tls": {}}}


def test_an_empty_variable_counts_as_not_set(file):
    assert load(file, {"KVEIL_LOG__LEVEL": ""}).log.level == "error"


def test_a_wrong_value_names_the_variable():
    (sentence,) = sentences({**BASE, "KVEIL_LIMITS__DRAIN_SECONDS": "soon"})
    assert sentence == "limits.drain_seconds: must be a number (set by KVEIL_LIMITS__DRAIN_SECONDS)"


def test_a_wrong_value_names_the_flag():
    flag = Override(path=("listeners",), value=[{"address": "0.0.0.0:1"}], origin="--listen")
    (sentence,) = sentences(BASE, flag)
    assert sentence.startswith("listeners[0].address: 0.0.0.0:1")
    assert sentence.endswith("(set by --listen)")


def test_an_unknown_variable_is_an_error_with_a_proposal():
    (sentence,) = sentences({**BASE, "KVEIL_LOG__LEVLE": "info"})
    assert "did you mean level?" in sentence
    assert "KVEIL_LOG__LEVLE" in sentence
    (sentence,) = sentences({**BASE, "KVEIL_LOGS__LEVEL": "info"})
    assert "did you mean log?" in sentence
    assert "KVEIL_LOGS__LEVEL" in sentence


def test_a_variable_that_is_almost_yaml():
    (sentence,) = sentences({**BASE, "KVEIL_TOPICS": "[{match: a"})
    assert sentence.startswith("KVEIL_TOPICS: begins like a YAML list")


def test_a_variable_that_reaches_into_a_value(file):
    (sentence,) = sentences({"KVEIL_LOG__LEVEL__X": "1"}, path=file)
    assert sentence == "KVEIL_LOG__LEVEL__X: reaches into a value that has no parts"


def test_a_value_with_braces_in_the_middle_is_text():
    (override,) = environment({"KVEIL_REALM": "a{b}"})
    assert isinstance(override, Override)
    assert override.value == "a{b}"


@pytest.mark.parametrize(
    "name",
    [
        "KVEIL_SERVICE_HOST",
        "KVEIL_SERVICE_PORT",
        "KVEIL_SERVICE_PORT_KAFKA",
        "KVEIL_PORT",
        "KVEIL_PORT_5000_TCP",
        "KVEIL_PORT_5000_TCP_ADDR",
        "KVEIL_GATEWAY_SERVICE_HOST",
        "KVEIL_GATEWAY_PORT_5000_TCP_PROTO",
        "KVEIL_CONFIG",
        "PATH",
        "kveil_log__level",
    ],
)
def test_what_kubernetes_and_others_set_is_left_alone(name):
    assert list(environment({name: "tcp://10.0.0.1:5000"})) == []


def test_the_port_count_is_no_service_link():
    (override,) = environment({"KVEIL_BROKER_PORTS__COUNT": "5"})
    assert isinstance(override, Override)
    assert override.path == ("broker_ports", "count")
