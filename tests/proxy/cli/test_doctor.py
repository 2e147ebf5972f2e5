"""`kveil doctor` as people and machines read it. The checks themselves have tests in tests/proxy/doctor."""

import json

import pytest

from kveil.proxy.cli.doctor import line
from kveil.proxy.doctor import examination
from kveil.proxy.doctor.findings import failure, ok, skipped, warning
from tests.support.ports import reserved_ports


@pytest.fixture
def nowhere(tmp_path, key_path):
    """A configuration of a cluster that isn't there."""
    tmp_path.chmod(0o700)
    with reserved_ports(1) as (port,):
        path = tmp_path / "kveil.yaml"
        path.write_text(f"upstream: {{bootstrap: ['127.0.0.1:{port}']}}\nkeys: {{path: {key_path}}}\n")
        path.chmod(0o600)
        yield path


@pytest.mark.parametrize(
    ("finding", "said"),
    [
        (ok("login", "as nobody"), "ok      login: as nobody"),
        (skipped("canary", "not sent"), "skipped canary: not sent"),
        (skipped("topics", "none", "name one"), "skipped topics: none -> name one"),
        (warning("tls", "ends soon", "renew it"), "WARNING tls: ends soon -> renew it"),
        (failure("name", "unknown", "mend it"), "FAILURE name: unknown -> mend it"),
    ],
)
def test_lines(finding, said):
    assert line(finding) == said


def test_as_text(kveil, nowhere):
    result = kveil("doctor", "-c", nowhere, "orders")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == f"ok      configuration: {nowhere} can be used"
    assert "ok      keys: keyfile:default wraps and unwraps" in lines
    assert [one.split()[1] for one in lines if one.startswith("FAILURE")] == ["connection:"]
    assert "skipped canary: not looked at, because of what was found at upstream" in lines
    assert result.stderr == ""


def test_as_json(kveil, nowhere):
    result = kveil("doctor", "-c", nowhere, "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["ok"], told["worst"]) == (False, "failure")
    assert {tuple(finding) for finding in told["findings"]} == {("level", "check", "what", "remedy")}
    assert all(finding["remedy"] for finding in told["findings"] if finding["level"] in {"warning", "failure"})


def test_without_a_file(kveil, key_path):
    result = kveil("doctor", "--upstream", "127.0.0.1:1", "--keys", key_path, "--no-canary")
    assert result.stdout.startswith("ok      configuration: what the environment and the options say can be used\n")


def test_what_takes_its_time_is_told_on_standard_error(kveil, nowhere, monkeypatch):
    """So that the findings can be piped."""
    monkeypatch.setattr(examination, "QUIET_SECONDS", 0.0)
    result = kveil("doctor", "-c", nowhere)
    assert "kveil: still looking at: upstream\n" in result.stderr
    assert "still looking" not in result.stdout


def test_keys_that_are_missing_are_a_finding_and_no_wrong_use(kveil, nowhere, key_path):
    """Also for rules that need more of them than others."""
    key_path.unlink()
    with nowhere.open("a") as file:
        file.write("topics: [{match: '*', mode: record, key_per: record_key}]\n")
    result = kveil("doctor", "-c", nowhere)
    assert result.exit_code == 1
    assert f"FAILURE keys: there is no key file {key_path}" in result.stdout


@pytest.mark.parametrize("option", ["--json", "--no-canary"])
def test_a_configuration_with_faults(kveil, nowhere, option):
    """All of them."""
    with nowhere.open("a") as file:
        file.write("workers: 0\nlistener: []\n")
    result = kveil("doctor", "-c", nowhere, option)
    assert result.exit_code == 2
    for path in ("workers", "listener"):
        assert path in (result.stdout if option == "--json" else str(result.exception or "") + result.stderr)


def test_a_login_for_a_proxy_that_has_one(kveil, nowhere, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "swordfish")
    sasl = "sasl: {mechanism: PLAIN, username: a, password: 'env:SECRET'}"
    nowhere.write_text(nowhere.read_text().replace("upstream: {", f"upstream: {{{sasl}, "))
    properties = tmp_path / "client.properties"
    properties.write_text("")
    result = kveil("doctor", "-c", nowhere, "--command-config", properties)
    assert (result.exit_code, "upstream.sasl" in result.stderr) == (2, True)


def test_the_canary_is_for_one_topic_or_none(kveil, nowhere):
    assert kveil("doctor", "-c", nowhere, "--canary", "orders", "--no-canary").exit_code == 2


def test_its_help_says_what_the_exit_codes_are(kveil):
    said = kveil("doctor", "--help").stdout
    assert "3: there are warnings" in " ".join(said.split())
