"""From a file, the environment and flags to settings; and every fault at once, with its path and the way out."""

from pathlib import Path

import pytest

from kveil.proxy.config import (
    ConfigError,
    Direction,
    HostPort,
    Mode,
    Override,
    Seal,
    Settings,
    StubCodec,
    load,
    load_keys,
)

UPSTREAM = "upstream: {bootstrap: [broker:9092]}\n"


@pytest.fixture
def write(tmp_path: Path):
    def write_text(text: str, upstream: str = UPSTREAM) -> Path:
        path = tmp_path / "kveil.yaml"
        path.write_text(upstream + text)
        return path

    return write_text


def problems(path: Path | None = None, environ: dict[str, str] | None = None, *overrides: Override) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {}, overrides)
    assert caught.value.exit_code == 2
    found = {problem.path: problem.text for problem in caught.value.problems}
    assert len(found) == len(caught.value.problems), "one path is reported twice"
    return found


def test_the_example_of_the_design_loads_but_for_what_comes_later(write, tmp_path: Path):
    text = """
listeners:
  - address: 127.0.0.1:5000
upstream:
  bootstrap: [pkc-1.example.net:9092]
  tls: {}
  sasl: passthrough
realm: production
keys:
  provider: keyfile
  path: /var/lib/kveil/keys.json
topics:
  - match: "orders.*"
  - match: "metrics.*"
    seal: none
"""
    settings = load(write(text, upstream=""), {})
    assert settings.upstream.bootstrap == (HostPort(host="pkc-1.example.net", port=9092),)
    assert settings.upstream.tls is not None
    assert settings.upstream.tls.ca is None
    assert settings.realm == "production"
    assert settings.keys.path == Path("/var/lib/kveil/keys.json")
    assert [rule.seal for rule in settings.topics] == [Seal.BATCH, Seal.NONE]


def test_everything_but_the_upstream_has_a_default(write):
    settings = load(write(""), {})
    assert settings.listeners[0].address == HostPort(host="127.0.0.1", port=5000)
    assert settings.listeners[0].direction is Direction.BOTH
    assert settings.listeners[0].advertised_host == "127.0.0.1"
    assert settings.upstream.tls is None
    assert settings.upstream.sasl == "passthrough"
    assert settings.broker_ports.count == 100
    assert settings.topics == ()
    assert settings.presets == ()
    assert settings.skip == ()
    assert settings.realm is None
    assert settings.keys.provider == "keyfile"
    assert settings.limits.frame_bytes == 104_857_600
    assert settings.limits.epoch_key_hours == 24
    assert settings.limits.topic_settings_seconds == 60
    assert settings.log.format == "auto"
    assert settings.log.level == "info"


def test_a_rule_has_the_defaults_that_protect(write):
    (rule,) = load(write("topics: [{match: orders}]"), {}).topics
    assert rule.seal is Seal.BATCH
    assert rule.mode is Mode.AUTO
    assert rule.key == "default"
    assert rule.accept_keys == ()
    assert rule.accept_plain is False
    assert rule.stub_codec is StubCodec.AUTO
    assert rule.sealed_as is None


def test_a_rule_with_everything(write):
    text = """
topics:
  - match: mirror.*
    seal: batch
    mode: batch
    key: eu
    accept_keys: [old, older]
    accept_plain: true
    stub_codec: none
    sealed_as: {topic: orders}
"""
    (rule,) = load(write(text), {}).topics
    assert rule.mode is Mode.BATCH
    assert rule.key == "eu"
    assert rule.accept_keys == ("old", "older")
    assert rule.accept_plain is True
    assert rule.stub_codec is StubCodec.NONE
    assert rule.sealed_as is not None
    assert rule.sealed_as.topic == "orders"


def test_settings_are_frozen(write):
    settings = load(write(""), {})
    with pytest.raises(ValueError, match="frozen"):
        settings.realm = "other"  # type: ignore[misc]


def test_no_upstream_says_all_three_ways_to_name_it():
    text = problems()["upstream.bootstrap"]
    assert "--upstream" in text
    assert "KVEIL_UPSTREAM__BOOTSTRAP" in text


@pytest.mark.parametrize("upstream", ["upstream:\n", "upstream: {}\n", "upstream: {bootstrap: []}\n"])
def test_an_empty_upstream_is_no_upstream(write, upstream):
    assert list(problems(write("", upstream=upstream))) == ["upstream.bootstrap"]


def test_every_problem_is_reported_at_once(write):
    text = """
listeners:
  - address: 0.0.0.0:5000
  - address: 127.0.0.1
    direction: sideways
topics:
  - match: a
    mode: record
  - match: b
    seal: none
    key: other
  - sela: none
    match: c
limits: {frame_byte: 1, drain_seconds: soon}
log: {level: loud}
presets: [conect]
skip: [orders/1/9-3]
realm: "has spaces"
nonsense: 1
"""
    found = problems(write(text, upstream="upstream: {tls: {min_version: '1.1'}, sasl: {mechanism: PLAIN}}\n"))
    assert set(found) == {
        "upstream.bootstrap",
        "upstream.tls.min_version",
        "upstream.sasl",
        "listeners[0].address",
        "listeners[1].address",
        "listeners[1].direction",
        "topics[0].mode",
        "topics[1].key",
        "topics[2].sela",
        "limits.frame_byte",
        "limits.drain_seconds",
        "log.level",
        "presets[0]",
        "skip[0]",
        "realm",
        "nonsense",
    }


def test_the_error_is_one_line_a_problem(write):
    with pytest.raises(ConfigError) as caught:
        load(write("log: {level: loud}\nrealm: ''\n"), {})
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "log.level: must be one of debug, info, warning, error" in lines


@pytest.mark.parametrize(
    ("text", "path", "sentence"),
    [
        ("topics: [{match: a, mode: record}]", "topics[0].mode", "no record mode yet"),
        ("topics: [{match: a, mode: recrd}]", "topics[0].mode", "must be one of auto, batch"),
        ("topics: [{match: a, seal: null}]", "topics[0].seal", "must be one of batch, none"),
        ("topics: [{match: a, seal: off}]", "topics[0].seal", "must be one of batch, none"),
        ("topics: [{match: 'a b'}]", "topics[0].match", "can match no topic"),
        ("topics: [{match: ''}]", "topics[0].match", "can match no topic"),
        ("topics: [{match: on}]", "topics[0].match", "must be text"),
        ("topics: [{mode: batch}]", "topics[0].match", "is missing"),
        ("topics: [{match: a, seal: none, mode: batch}]", "topics[0].mode", "no meaning with seal: none"),
        ("topics: [{match: a, seal: none, accept_plain: true}]", "topics[0].accept_plain", "no meaning"),
        ("topics: [{match: a, seal: none, accept_keys: [b]}]", "topics[0].accept_keys", "no meaning"),
        ("topics: [{match: a, seal: none, stub_codec: none}]", "topics[0].stub_codec", "no meaning"),
        ("topics: [{match: a, seal: none, sealed_as: {topic: b}}]", "topics[0].sealed_as", "no meaning"),
        ("topics: [{match: a, sealed_as: {topic: 'a/b'}}]", "topics[0].sealed_as.topic", "no topic can have"),
        ("topics: [{match: a, sealed_as: {}}]", "topics[0].sealed_as.topic", "is missing"),
        ("topics: [{match: a, key: ''}]", "topics[0].key", "1 to 128"),
        ("topics: [{match: a, accept_plain: perhaps}]", "topics[0].accept_plain", "true or false"),
        ("topics: {match: a}", "topics", "must be a list"),
        ("topics: [{match: a}, {match: a}]", "topics[1].match", "topics[0] matches first"),
        ("topics: [{match: '*'}, {match: a}]", "topics[1].match", "topics[0] matches first"),
        ("listeners: []", "listeners", "must not be empty"),
        ("listeners: [127.0.0.1:5000]", "listeners[0]", "must be a map"),
        ("listeners: [{address: 10.0.0.1:5000}]", "listeners[0].address", "next version"),
        ("listeners: [{address: broker:5000}]", "listeners[0].address", "loopback"),
        ("listeners: [{tls: {}}]", "listeners[0].tls", "later version"),
        ("listeners: [{sasl: {}}]", "listeners[0].sasl", "later version"),
        ("listeners: [{advertised: 'a:1'}]", "listeners[0].advertised", "without a port"),
        ("listeners: [{address: 127.0.0.1:65500}]", "listeners[0].address", "65535 is the last"),
        (
            "listeners: [{address: 127.0.0.1:5000}, {address: 127.0.0.1:5050}]",
            "listeners[1].address",
            "belongs to listeners[0].address",
        ),
        (
            "listeners: [{address: 127.0.0.1:5000}, {address: localhost:5050}]",
            "listeners[1].address",
            "belongs to listeners[0].address",
        ),
        ("nodes: {99: 7000}", "nodes[99]", "have their port already"),
        ("nodes: {100: 5001}", "nodes[100]", "belongs to listeners[0].address"),
        ("nodes: {100: 7000, 101: 7000}", "nodes[101]", "belongs to nodes[100]"),
        ("nodes: {100: 0}", "nodes[100]", "at least 1"),
        ("nodes: {x: 7000}", "nodes.x", "must be a whole number"),
        ("nodes: [7000]", "nodes", "map of node id to port"),
        ("broker_ports: {count: 0}", "broker_ports.count", "at least 1"),
        ("broker_ports: 5", "broker_ports", "must be a map"),
        ("keys: {provider: vault}", "keys.provider", "keyfile"),
        ("keys: {path: 5}", "keys.path", "must be a path"),
        ("limits: {epoch_key_hours: 25}", "limits.epoch_key_hours", "at most 24"),
        ("limits: {epoch_key_hours: 0}", "limits.epoch_key_hours", "more than 0"),
        ("limits: {frame_bytes: 10}", "limits.frame_bytes", "at least 65536"),
        ("limits: {frame_bytes: 3000000000}", "limits.frame_bytes", "at most 2147483647"),
        ("limits: {max_connections: 1.5}", "limits.max_connections", "whole number"),
        ("skip: [orders/1]", "skip[0]", "topic/partition/from-to"),
        ("skip: ['o rders/1/2-3']", "skip[0]", "no topic can have"),
        ("skip: [5]", "skip[0]", "must be text"),
    ],
)
def test_one_fault_is_told_where_it_is(write, text, path, sentence):
    found = problems(write(text))
    assert list(found) == [path]
    assert sentence in found[path]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("listener: []", "did you mean listeners?"),
        ("topic: []", "did you mean topics?"),
        ("limits: {max_connection: 1}", "did you mean max_connections?"),
        ("topics: [{match: a, acept_plain: true}]", "did you mean accept_plain?"),
        ("log: {zzz: 1}", "known here: format, level"),
        ("upstream: {bootstrap: [a:1], tls: {certt: x}}", "did you mean cert?"),
    ],
)
def test_an_unknown_key_is_an_error_with_a_proposal(write, text, hint):
    upstream = "" if text.startswith("upstream") else UPSTREAM
    (sentence,) = problems(write(text, upstream=upstream)).values()
    assert "there is no such key" in sentence
    assert hint in sentence


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"topics: [", "is not YAML"),
        (b"a: 1\nb: [}\n", "line 2"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"- a\n", "must be a map"),
        (b"topics: []\ntopics: []\n", "'topics' stands twice"),
        (b"log: {level: info, level: debug}\n", "'level' stands twice in line 1"),
        (b"!!python/object/apply:os.system ['true']\n", "is not YAML"),
        (b"a: " + b"x" * (1 << 20), "larger than 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path, content, sentence):
    path = tmp_path / "kveil.yaml"
    path.write_bytes(content)
    found = problems(path)
    assert list(found) == [str(path)]
    assert sentence in found[str(path)]


def test_an_empty_file_is_an_empty_configuration(tmp_path):
    path = tmp_path / "kveil.yaml"
    path.write_text("# nothing yet\n")
    assert isinstance(load(path, {"KVEIL_UPSTREAM__BOOTSTRAP": "a:1"}), Settings)


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_can_not_be_read(tmp_path, name):
    path = tmp_path / name
    (sentence,) = problems(path).values()
    assert "can't be read" in sentence


def test_a_value_that_may_be_a_secret_is_never_repeated(write):
    with pytest.raises(ConfigError) as caught:
        load(write("upstream: {bootstrap: [a:1], sasl: {password: hunter2}}", upstream=""), {})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        tls = "upstream: {bootstrap: [a:1], tls: {key_password: hunter2}}"
        load(write(tls, upstream=""), {})
    assert "hunter2" not in str(caught.value)
    assert "file:PATH or env:NAME" in str(caught.value)


def test_two_loopback_addresses_may_use_the_same_ports(write):
    text = "listeners: [{address: '127.0.0.1:5000'}, {address: '[::1]:5000'}]\nnodes: {200: 7000}"
    settings = load(write(text), {})
    assert [settings.node_ports(one) for one in settings.listeners] == [{200: 7000}, {200: 7000}]


def test_each_listener_may_have_nodes_of_its_own(write):
    text = """
listeners:
  - {address: 127.0.0.1:4000, direction: consume, nodes: {200: 7000}}
  - {address: 127.0.0.1:5000, direction: produce, nodes: {200: 7001}}
"""
    settings = load(write(text), {})
    assert [settings.node_ports(one) for one in settings.listeners] == [{200: 7000}, {200: 7001}]


def test_common_nodes_of_two_listeners_on_one_host_collide(write):
    text = "listeners: [{address: 127.0.0.1:4000}, {address: 127.0.0.1:5000}]\nnodes: {200: 7000}"
    assert "listeners[1] needs port 7000" in problems(write(text))["nodes[200]"]


def test_the_port_ranges_may_touch(write):
    text = "broker_ports: {count: 9}\nlisteners: [{address: 127.0.0.1:5000}, {address: 127.0.0.1:5010}]"
    assert len(load(write(text), {}).listeners) == 2


def test_the_last_port_may_be_used(write):
    assert load(write("listeners: [{address: 127.0.0.1:65435}]"), {})


def test_keys_alone_need_no_upstream_and_no_right_rules(tmp_path, write):
    path = write("keys: {path: /x/keys.json}\ntopics: 5\n", upstream="")
    assert load_keys(path, {}).path == Path("/x/keys.json")


def test_keys_alone_still_say_what_is_wrong_with_them(write):
    with pytest.raises(ConfigError) as caught:
        load_keys(write("keys: {provider: vault}\ntopics: 5\n", upstream=""), {})
    assert [problem.path for problem in caught.value.problems] == ["keys.provider"]
