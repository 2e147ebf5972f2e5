"""`kveil init`: each configuration is refused until it is filled in, and then fits its service."""

import json
import re
import stat
from pathlib import Path

import pytest
import yaml

from kveil.proxy.cli.starting_points import SERVICES
from kveil.proxy.config import Mechanism, Settings, load
from kveil.proxy.policy import Policy
from tests.support.certificates import CertificateAuthority

DOCS = Path(__file__).parents[3] / "docs"
CASES = [(name.value, login) for name, service in SERVICES.items() for login in service.logins]
BLANK = re.compile(r'"<fill in: (?!\.{3})([^"]*)>"')


@pytest.fixture(autouse=True)
def own_key_path(monkeypatch, tmp_path):
    """The place for root's keys is the machine's."""
    monkeypatch.setattr("kveil.proxy.config.paths.SYSTEM_KEY_PATH", tmp_path / "state of kveil" / "keys.json")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What a service hands out, by the names that the configurations give as examples."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = CertificateAuthority(folder)
    client = authority.issue("service-user")
    return {"ca.pem": authority.path, "service.cert": client.chain, "service.key": client.key}


@pytest.fixture
def fill_in(files, monkeypatch):
    """Put the example of each placeholder in its place, as far as it has one."""

    def value(blank: re.Match[str]) -> str:
        example = blank[1].rpartition("as in ")[2]
        if "env:" in example:
            monkeypatch.setenv(example.rpartition("env:")[2], "secret")
            return example.rpartition(" ")[2]
        if example.startswith("/"):
            return str(files[Path(example).name])
        return example if example != blank[1] else "somebody"

    def fill(path: Path) -> Settings:
        path.write_text(BLANK.sub(value, path.read_text()))
        return load(path, {})

    return fill


@pytest.fixture
def made(kveil, tmp_path: Path):
    def make(name: str, login: str) -> tuple[Path, list[str]]:
        path = tmp_path / f"{name}-{login}.yaml"
        result = kveil("init", "--for", name, "--login", login, "--out", path, "--json")
        assert result.exit_code == 0, result.stderr
        found = json.loads(result.stdout)
        assert (found["path"], found["for"], found["login"]) == (str(path), name, login)
        return path, found["fill_in"]

    return make


@pytest.mark.parametrize(("name", "login"), CASES)
class TestEachConfiguration:
    def test_is_refused_at_each_place_until_it_is_filled_in(self, kveil, made, name, login):
        path, places = made(name, login)
        assert len(places) == len(BLANK.findall(path.read_text())) >= 2
        result = kveil("check", "-c", path)
        assert result.exit_code == 2
        told = [re.fullmatch(r"kveil: (\S+): is not filled in yet: .*", line) for line in result.stderr.splitlines()]
        assert all(told), result.stderr
        assert sorted(one[1] for one in told if one) == sorted(places)

    def test_does_not_start(self, kveil, made, served, name, login):
        path, _ = made(name, login)
        assert kveil("run", "-c", path).exit_code == 2
        assert served == []

    def test_loads_once_it_is_filled_in(self, kveil, made, fill_in, name, login):
        path, _ = made(name, login)
        settings = fill_in(path)
        assert kveil("keys", "init", "-c", path).exit_code == 0
        result = kveil("check", "-c", path, "orders", "metrics.cpu")
        assert result.exit_code == 0, result.stderr
        assert "orders: sealed" in result.stdout
        assert "metrics.cpu: PLAIN" in result.stdout
        assert f"realm {settings.realm}, keys in {settings.keys.path}" in result.stdout
        assert settings.realm == "production"
        assert all(listener.address.is_loopback for listener in settings.listeners)
        assert not Policy(settings).rule_for("metrics.cpu").seal

    def test_says_how_it_was_made(self, kveil, made, name, login):
        path, _ = made(name, login)
        text = path.read_text()
        command = re.search(r"written by: kveil (.*)$", text, re.MULTILINE)[1]
        assert kveil(*command.split(), "--out", "-").stdout == text

    def test_is_documented(self, name, login):
        assert f"`{login}`" in re.search(rf"^\| `{name}` .*$", (DOCS / "commands.md").read_text(), re.MULTILINE)[0]


@pytest.mark.parametrize(
    ("name", "login", "mechanism", "port"),
    [
        ("confluent", "api-key", Mechanism.PLAIN, 9092),
        ("msk", "iam", Mechanism.AWS_MSK_IAM, 9098),
        ("msk", "scram", Mechanism.SCRAM_SHA_512, 9096),
        ("aiven", "scram", Mechanism.SCRAM_SHA_256, 12345),
        ("aiven", "certificate", None, 12345),
        ("redpanda", "scram", Mechanism.SCRAM_SHA_256, 9092),
    ],
)
def test_a_service_gets_tls_and_its_own_login(made, fill_in, name, login, mechanism, port):
    upstream = fill_in(made(name, login)[0]).upstream
    assert upstream.tls is not None
    assert [one.port for one in upstream.bootstrap] == [port]
    assert (upstream.sasl.mechanism if upstream.sasl else None) == mechanism
    assert (upstream.tls.ca is not None) == (name == "aiven")
    assert (upstream.tls.cert is not None) == (login == "certificate")


def test_a_secret_has_no_place_in_the_file(made, fill_in):
    for name, login in CASES:
        path, _ = made(name, login)
        fill_in(path)
        sasl = yaml.safe_load(path.read_text())["upstream"].get("sasl", {})
        assert sasl == "passthrough" or sasl.get("password", "env:").startswith("env:")


def test_it_is_for_its_owner_alone_and_the_next_steps_are_said(kveil, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = kveil("init")
    assert result.exit_code == 0
    assert stat.S_IMODE(Path("kveil.yaml").stat().st_mode) == 0o600
    lines = result.stdout.splitlines()
    assert lines[0] == "Made kveil.yaml, for a cluster of one's own."
    assert lines[1] == "To fill in: realm, upstream.bootstrap[0]"
    steps = [re.match(r"  kveil ([a-z ]+) -c kveil.yaml ", line) for line in lines[4:]]
    assert [step and step[1] for step in steps] == ["keys init", "check", "doctor", "run"]


def test_a_file_that_is_there_stays(kveil, tmp_path):
    path = tmp_path / "kveil.yaml"
    path.write_text("mine")
    result = kveil("init", "--for", "msk", "--out", path)
    assert result.exit_code == 2
    assert "is left alone" in result.stderr
    assert path.read_text() == "mine"
    assert [each.name for each in tmp_path.iterdir()] == ["kveil.yaml"]


def test_what_cannot_be_written_is_said(kveil, tmp_path):
    (tmp_path / "file").touch()
    result = kveil("init", "--out", tmp_path / "file" / "kveil.yaml")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"kveil: the configuration {tmp_path}/file/kveil.yaml can't be written: ")


def test_to_standard_output_goes_the_configuration_alone(kveil, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = kveil("init", "--for", "confluent", "--out", "-")
    assert yaml.safe_load(result.stdout)["upstream"]["sasl"]["mechanism"] == "PLAIN"
    assert "kveil keys init -c kveil.yaml" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--for", "nobody"), "confluent"),
        (("--for", "msk", "--login", "api-key"), "iam, scram"),
        (("--out", "-", "--json"), "standard output"),
    ],
)
def test_wrong_use(kveil, arguments, said):
    result = kveil("init", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
