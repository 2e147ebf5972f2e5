"""deploy/edge: its files fit each other and systemd, and its page's commands lead to records that wait for the link."""

import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kveil.proxy.config import ConfigError, Direction, load
from kveil.proxy.policy import Policy
from tests.support import java
from tests.support.clients import librdkafka_read
from tests.support.forward_proxy import ForwardProxy
from tests.support.kafka import Cluster
from tests.support.ports import reserved_port_range
from tests.support.processes import Child, run
from tests.support.proxy import BROKER_PORTS, KVEIL, kveil_proxy
from tests.support.security import USERS

ROOT = Path(__file__).parents[2]
EDGE = ROOT / "deploy" / "edge"
PAGE = (EDGE / "README.md").read_text()
UNIT = "kveil@edge.service"
CREDENTIALS = f"/run/credentials/{UNIT}"
SECONDS = 60.0


def typed() -> list[str]:
    """The commands of the page."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A root directory that the page's commands have installed to."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "etc/kveil/edge.yaml"

    @property
    def environment(self) -> dict[str, str]:
        """What the unit's own lines set."""
        unit = (ROOT / "deploy/systemd/kveil@.service").read_text()
        assert "Environment=KVEIL_KEYS__PATH=%d/keys.json" in unit
        assert "LoadCredential=keys.json:/etc/kveil/%i.keys.json" in unit
        return {"KVEIL_KEYS__PATH": str(self.root / "etc/kveil/edge.keys.json")}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Its commands as they are typed, but for those that need root and a systemd that runs."""
    place, root = tmp_path / "clone", tmp_path / "root"
    (root / "etc/kveil").mkdir(parents=True)  # by make install-systemd
    place.mkdir()
    (place / "deploy").symlink_to(ROOT / "deploy")
    (place / "kafka-password").write_text(USERS["alice"] + "\n")
    for line in typed():
        program, _, rest = line.partition(" ")
        command = [*KVEIL, *rest.split()] if program == "kveil" else line.replace(" /etc/", f" {root}/etc/").split()
        if program in {"kveil", "install"}:
            done = run(command, cwd=place, environment=dict(os.environ))
            assert done.returncode == 0, done.stderr
    return Host(root=root)


def fill_in(host: Host, bootstrap: str = "broker-1.example.net:9093") -> None:
    """As the page's editor, and as systemd that hands out the password."""
    text = host.config.read_text()
    text = re.sub(r'"<fill in: a broker[^"]*"', bootstrap, text)
    text = re.sub(r'"<fill in: the user[^"]*"', "alice", text)
    assert CREDENTIALS + "/kafka-password" in text
    host.config.write_text(text.replace(CREDENTIALS + "/kafka-password", f"{host.root}/etc/kveil/edge.kafka-password"))


class TestTheFiles:
    def test_every_line_of_the_page_is_known(self):
        assert {line.split()[0] for line in typed()} == {"kveil", "make", "install", "editor", "systemctl"}
        assert {line.split()[-1] for line in typed() if "enable" in line or "status" in line} == {"kveil@edge"}

    def test_every_file_is_told_of_and_there(self):
        told = set(re.findall(r"^\| \[`([^`]+)`\]", PAGE, re.MULTILINE))
        assert told == {path.name for path in EDGE.iterdir()} - {"README.md"}
        assert "edge/README.md" in (ROOT / "docs/install.md").read_text()

    def test_secrets_are_for_root_alone_where_the_units_look(self, host):
        units = (ROOT / "deploy/systemd/kveil@.service").read_text() + (EDGE / "credentials.conf").read_text()
        wanted = re.findall(r"^LoadCredential=[a-z.-]+:(\S+)$", units, re.MULTILINE)
        assert len(wanted) == 2
        for path in wanted:
            place = host.root / path.replace("%i", "edge").lstrip("/")
            assert stat.S_IMODE(place.stat().st_mode) == 0o600
        assert (host.root / f"etc/systemd/system/{UNIT}.d/credentials.conf").exists()
        assert host.config.stat().st_mode & stat.S_IROTH, "the service has a user of its own"

    def test_the_configuration_waits_to_be_filled_in(self, host):
        with pytest.raises(ConfigError) as caught:
            load(host.config, {})
        told = {one.path for one in caught.value.problems if "is not filled in yet" in one.text}
        assert told == {"upstream.bootstrap[0]", "upstream.sasl.username"}

    def test_it_seals_everything_and_listens_for_this_host_alone(self, host):
        fill_in(host)
        settings = load(host.config, host.environment)
        assert Policy(settings).rule_for("anything").seal
        assert settings.upstream.tls is not None
        (listener,) = settings.listeners
        assert listener.address.is_loopback
        assert listener.direction is Direction.PRODUCE
        properties = (EDGE / "client.properties").read_text()
        assert f"bootstrap.servers={listener.address}\n" in properties

    @pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
    def test_systemd_finds_no_fault(self, host):
        units = host.root / "etc/systemd/system"
        text = (ROOT / "deploy/systemd/kveil@.service").read_text()
        (units / "kveil@.service").write_text(text.replace("/opt/kveil/bin/kveil", "/bin/true"))
        environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"}
        done = run(["systemd-analyze", "verify", "--man=no", UNIT], environment=environment)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def uplink() -> Iterator[ForwardProxy]:
    """The only way out."""
    with ForwardProxy("http") as running:
        yield running


def test_records_wait_for_the_link(host: Host, kafka_sasl: Cluster, uplink: ForwardProxy, topic: str):
    """Kveil and the producer start without a link. When it is there, everything arrives, in order and sealed."""
    kafka_sasl.create_topic(topic)
    assert kafka_sasl.certificates is not None
    ca = str(kafka_sasl.certificates.authority.path)
    fill_in(host, kafka_sasl.bootstrap)
    uplink.answer = b"HTTP/1.1 503 no link\r\n\r\n"
    with reserved_port_range(1 + BROKER_PORTS) as port:
        environment = {
            **os.environ,
            **host.environment,
            "KVEIL_LISTENERS__0__ADDRESS": f"127.0.0.1:{port}",
            "KVEIL_BROKER_PORTS__COUNT": str(BROKER_PORTS),
            "KVEIL_ADMIN__ADDRESS": "null",
            "KVEIL_UPSTREAM__TLS__CA": ca,
            "KVEIL_UPSTREAM__PROXY": f"http://{uplink.address}",
        }
        command = [*KVEIL, "run", "-c", str(host.config)]
        with Child(command, environment=environment) as kveil:
            kveil.errors.wait_for("listening", SECONDS)
            reach = ("--bootstrap-server", f"127.0.0.1:{port}", "--topic", topic)
            tool = (java.CONSOLE_PRODUCER, *reach, "--command-config", str(EDGE / "client.properties"))
            with java.start_java_tool(*tool) as producer:
                producer.write_line("one")
                kveil.errors.wait_for("upstream_unreachable", SECONDS)
                producer.write_line("two")
                producer.close_stdin()
                uplink.answer = None
                assert producer.wait(SECONDS) == 0
            assert kveil.stop() == 0
    stored = kafka_sasl.stored_bytes(topic)
    assert b"\xc5\x4b\x56" in stored
    assert b"one" not in stored
    password = f"file:{host.root}/etc/kveil/edge.kafka-password"
    sasl = {"mechanism": "SCRAM-SHA-512", "username": "alice", "password": password}
    keys = Path(host.environment["KVEIL_KEYS__PATH"])
    with kveil_proxy(kafka_sasl.bootstrap, keys=keys, tls={"ca": ca}, to_cluster={"sasl": sasl}) as reader:
        read = librdkafka_read({"bootstrap.servers": reader.bootstrap}, topic)
        assert [record.value for record in read] == [b"one", b"two"]
