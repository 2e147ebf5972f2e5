"""`kveil run`, `producer` and `consumer`: the settings that they come to, and their exit codes."""

import sys
from pathlib import Path

import pytest

from kveil.proxy import log
from kveil.proxy.config import ConfigError, Direction, HostPort, Problem
from tests.support.certificates import CertificateAuthority

COMMANDS = ["run", "producer", "consumer"]


@pytest.fixture
def config(tmp_path: Path, key_path: Path) -> Path:
    path = tmp_path / "kveil.yaml"
    path.write_text(
        f"""
upstream: {{bootstrap: [file:9092], tls: {{min_version: '1.3'}}}}
listeners: [{{address: 127.0.0.1:6000}}, {{address: 127.0.0.1:7000, direction: consume}}]
keys: {{path: {key_path}}}
log: {{level: error, format: json}}
topics: [{{match: a}}]
"""
    )
    return path


def addresses(settings) -> list[tuple[str, Direction]]:
    return [(str(listener.address), listener.direction) for listener in settings.listeners]


def test_flags_alone_are_enough(kveil, served, key_path):
    result = kveil("run", "--upstream", "a:9092,b:9093", "--keys", key_path)
    assert result.exit_code == 0, result.stderr
    (settings,) = served
    assert settings.upstream.bootstrap == (HostPort(host="a", port=9092), HostPort(host="b", port=9093))
    assert settings.keys.path == key_path
    assert settings.upstream.tls is None
    assert addresses(settings) == [("127.0.0.1:5000", Direction.BOTH)]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("run", ("127.0.0.1:5000", Direction.BOTH)),
        ("producer", ("127.0.0.1:5000", Direction.PRODUCE)),
        ("consumer", ("127.0.0.1:4000", Direction.CONSUME)),
    ],
)
def test_where_each_command_listens(kveil, served, key_path, command, expected):
    assert kveil(command, "--upstream", "a:1", "--keys", key_path).exit_code == 0
    assert addresses(served[0]) == [expected]


@pytest.mark.parametrize(("command", "direction"), [("run", "both"), ("producer", "produce"), ("consumer", "consume")])
def test_listen_replaces_the_listeners(kveil, served, config, command, direction):
    assert kveil(command, "-c", config, "--listen", "127.0.0.1:1000", "--listen", "[::1]:1000").exit_code == 0
    assert addresses(served[0]) == [("127.0.0.1:1000", direction), ("[::1]:1000", direction)]


def test_a_file_is_taken_as_it_stands(kveil, served, config):
    assert kveil("run", "-c", config).exit_code == 0
    (settings,) = served
    assert addresses(settings) == [("127.0.0.1:6000", "both"), ("127.0.0.1:7000", "consume")]
    assert settings.log.level == "error"
    assert settings.upstream.tls.min_version == "1.3"


@pytest.mark.parametrize("command", ["producer", "consumer"])
def test_a_one_way_command_leaves_the_file_s_listeners_aside(kveil, served, config, command):
    assert kveil(command, "-c", config).exit_code == 0
    assert len(served[0].listeners) == 1
    assert served[0].topics[0].match == "a"


def test_the_file_may_be_named_by_a_variable(kveil, served, config, monkeypatch):
    monkeypatch.setenv("KVEIL_CONFIG", str(config))
    assert kveil("run").exit_code == 0
    assert str(served[0].upstream.bootstrap[0]) == "file:9092"


def test_flags_go_over_variables_and_variables_over_the_file(kveil, served, config, monkeypatch):
    monkeypatch.setenv("KVEIL_LOG__LEVEL", "debug")
    monkeypatch.setenv("KVEIL_UPSTREAM__BOOTSTRAP", "env:9092")
    assert kveil("run", "-c", config, "--upstream", "flag:9092").exit_code == 0
    (settings,) = served
    assert str(settings.upstream.bootstrap[0]) == "flag:9092"
    assert settings.log.level == "debug"


@pytest.mark.parametrize(("flags", "expected"), [([], "1.3"), (["--tls"], "1.3"), (["--no-tls"], None)])
def test_tls_keeps_what_the_file_says_of_it(kveil, served, config, flags, expected):
    assert kveil("run", "-c", config, *flags).exit_code == 0
    tls = served[0].upstream.tls
    assert (tls.min_version if tls else None) == expected


def test_tls_by_flags_alone(kveil, served, key_path, tmp_path):
    ca = CertificateAuthority(tmp_path / "ca").issue("broker").chain
    base = ["run", "--upstream", "a:1", "--keys", key_path]
    for flags in (["--tls"], ["--tls-ca", ca], ["--tls", "--tls-ca", ca]):
        assert kveil(*base, *flags).exit_code == 0
    assert [one.upstream.tls.ca for one in served] == [None, ca, ca]


def test_logging_is_set_up_before_the_server(kveil, served, key_path, monkeypatch):
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(log, "configure", lambda *args: calls.append(args))
    flags = ["--log-format", "json", "--log-level", "debug"]
    assert kveil("run", "--upstream", "a:1", "--keys", key_path, *flags).exit_code == 0
    assert calls == [("json", "debug")]


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_exit_code_is_the_server_s(kveil, served, key_path, monkeypatch, code):
    monkeypatch.setattr(sys.modules["kveil.proxy.server"], "serve", lambda _settings, _read: code)
    assert kveil("run", "--upstream", "a:1", "--keys", key_path).exit_code == code


@pytest.mark.parametrize("command", COMMANDS)
def test_no_upstream(kveil, served, command):
    result = kveil(command)
    assert result.exit_code == 2
    assert result.stderr.startswith("kveil: upstream.bootstrap: is missing")
    assert "Traceback" not in result.stderr
    assert served == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_key_file(kveil, served, tmp_path, command):
    result = kveil(command, "--upstream", "a:1", "--keys", tmp_path / "nope.json")
    assert result.exit_code == 2
    assert "kveil keys init --keys" in result.stderr
    assert served == []


def test_every_problem_has_a_line(kveil, served, key_path):
    flags = ["--listen", "0.0.0.0:5000", "--log-level", "loud", "--tls-ca", "/nope.pem"]
    result = kveil("run", "--keys", key_path, *flags)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("kveil: ") for line in lines)
    for flag in ("--listen", "--log-level", "--tls-ca"):
        assert sum(line.endswith(f"(set by {flag})") for line in lines) == 1


def test_a_fault_that_the_server_finds_is_a_sentence_too(kveil, served, key_path, monkeypatch):
    def refuse(_settings, _read):
        raise ConfigError([Problem(path="listeners[0].address", text="port 5000 is in use")])

    monkeypatch.setattr(sys.modules["kveil.proxy.server"], "serve", refuse)
    result = kveil("run", "--upstream", "a:1", "--keys", key_path)
    assert result.exit_code == 2
    assert result.stderr == "kveil: listeners[0].address: port 5000 is in use\n"


def test_a_fault_of_the_program_is_not_hidden(kveil, served, key_path, monkeypatch):
    def fail(_settings, _read):
        msg = "a bug"
        raise RuntimeError(msg)

    monkeypatch.setattr(sys.modules["kveil.proxy.server"], "serve", fail)
    result = kveil("run", "--upstream", "a:1", "--keys", key_path)
    assert result.exit_code == 1
    assert isinstance(result.exception, RuntimeError)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--nonsense", "surplus"])
def test_wrong_use(kveil, served, command, flag):
    result = kveil(command, flag)
    assert result.exit_code == 2
    assert flag in result.stderr
