"""From a file, the environment and flags to settings; and every fault at once, with its path and the way out."""

from pathlib import Path

import pytest

from kveil.proxy.config import (
    ConfigError,
    Direction,
    HostPort,
    Limits,
    Mode,
    Override,
    Seal,
    Settings,
    StubCodec,
    load,
    load_key_settings,
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
    assert settings.upstream.sasl is None  # the clients log in
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
    assert rule.key is None  # keys.default
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
    accept_keys: [old, "vault:older-{topic}"]
    accept_plain: true
    stub_codec: none
    sealed_as: {topic: orders}
keys: {vault: {address: "https://vault.example.net:8200/", kubernetes: {role: kveil}}}
"""
    (rule,) = load(write(text), {}).topics
    assert rule.mode is Mode.BATCH
    assert str(rule.key) == "eu"
    assert [str(key) for key in rule.accept_keys] == ["old", "vault:older-{topic}"]
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
    mode: records
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
        "upstream.sasl.username",
        "upstream.sasl.password",
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
    tls = "upstream: {bootstrap: [a:1], tls: {key_password: hunter2}}"
    with pytest.raises(ConfigError) as caught:
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


def test_the_last_port_may_be_used_and_none_beyond(write):
    assert load(write("listeners: [{address: 127.0.0.1:65435}]"), {})
    assert "65436 to 65536" in problems(write("listeners: [{address: 127.0.0.1:65436}]"))["listeners[0].address"]


def test_keys_alone_need_no_upstream_and_no_right_rules(tmp_path, write):
    path = write("keys: {path: /x/keys.json}\ntopics: 5\n", upstream="")
    assert load_keys(path, {}).path == Path("/x/keys.json")


def test_what_is_about_keys_needs_no_upstream(write):
    path = write("realm: lab\nkeys: {default: eu}\ntopics: [{match: a, key: us}]\nlimits: 5\n", upstream="")
    settings = load_key_settings(path, {})
    assert (settings.realm, str(settings.keys.default)) == ("lab", "eu")
    assert [str(rule.key) for rule in settings.topics] == ["us"]
    assert settings.limits == Limits()


def test_what_is_about_keys_must_be_right(write):
    with pytest.raises(ConfigError) as caught:
        load_key_settings(write("keys: {provider: vault}\ntopics: [{match: a, mode: x}]\n", upstream=""), {})
    assert [problem.path for problem in caught.value.problems] == ["topics[0].mode"]
    with pytest.raises(ConfigError) as caught:
        load_key_settings(write("keys: {provider: vault}\nlimits: 5\n", upstream=""), {})
    assert [problem.path for problem in caught.value.problems] == ["keys.vault"]


def test_keys_alone_still_say_what_is_wrong_with_them(write):
    with pytest.raises(ConfigError) as caught:
        load_keys(write("keys: {provider: valt}\ntopics: 5\n", upstream=""), {})
    assert [problem.path for problem in caught.value.problems] == ["keys.provider"]
