"""`kveil doctor` against real brokers: one that is well, and every way in which it isn't."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka.admin import AclOperation, AdminClient, ResourceType

from tests.support.certificates import CertificateAuthority
from tests.support.kafka import Cluster, Security, kafka_cluster
from tests.support.ports import reserved_ports
from tests.support.proxy import kveil
from tests.support.security import USERS

OK, FAILED, WRONG_CONFIG, WARNED = 0, 1, 2, 3


class Patient:
    """A configuration, and what doctor says of it."""

    def __init__(self, folder: Path, cluster: Cluster, upstream: Mapping[str, Any]) -> None:
        self.folder = folder
        self.keys = folder / "keys.json"
        self.config: dict[str, Any] = {
            "upstream": {"bootstrap": [cluster.bootstrap], **upstream},
            "keys": {"path": str(self.keys)},
        }
        assert kveil("keys", "init", "--keys", str(self.keys), "--realm", "test").returncode == 0

    def secret(self, name: str, text: str) -> str:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return f"file:{path}"

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        path = self.folder / "kveil.yaml"
        path.write_text(yaml.safe_dump(self.config))
        return kveil("doctor", *arguments, "-c", str(path))

    def look(self, *arguments: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
        """The exit code, and the findings of each check."""
        done = self.ask(*arguments, "--json")
        assert {json.loads(line)["event"] for line in done.stderr.splitlines()} <= {"audit"}
        found: dict[str, list[dict[str, str]]] = {}
        for finding in json.loads(done.stdout)["findings"]:
            found.setdefault(finding["check"], []).append(finding)
        return done.returncode, found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture
def plain(folder: Path, kafka: Cluster) -> Patient:
    return Patient(folder, kafka, {})


@pytest.fixture
def guarded(folder: Path, kafka_sasl: Cluster) -> Patient:
    """One that logs in over TLS."""
    return with_login(folder, kafka_sasl)


def with_login(folder: Path, cluster: Cluster) -> Patient:
    tls = {} if cluster.certificates is None else {"tls": {"ca": str(cluster.certificates.authority.path)}}
    patient = Patient(folder, cluster, tls)
    password = patient.secret("password", USERS["alice"])
    patient.config["upstream"]["sasl"] = {"mechanism": "PLAIN", "username": "alice", "password": password}
    return patient


def topics_of(cluster: Cluster) -> set[str]:
    admin = AdminClient({"bootstrap.servers": cluster.internal_bootstrap})
    return {name for name in admin.list_topics(timeout=20).topics if name.startswith("_kveil.doctor.")}


def of(findings: dict[str, list[dict[str, str]]], check: str) -> tuple[str, str]:
    (found,) = findings[check]
    return found["level"], found["what"]


def level_of(findings: dict[str, list[dict[str, str]]], check: str) -> str:
    return findings[check][-1]["level"]


class TestWell:
    def test_a_cluster(self, plain: Patient, kafka: Cluster):
        """Nothing is left behind."""
        code, found = plain.look()
        assert code == OK, found
        assert of(found, "login") == ("ok", f"as nobody; cluster {kafka.cluster_id}, 1 broker")
        assert "and opened" in of(found, "canary")[1]
        assert "envelope in batch mode under keyfile:default version 1; neither key nor value" in of(found, "stored")[1]
        assert of(found, "clock")[0] == "ok"
        assert topics_of(kafka) == set()

    def test_with_tls_and_a_login(self, guarded: Patient, kafka_sasl: Cluster):
        """Only the broker's certificate is short-lived."""
        code, found = guarded.look()
        assert code == WARNED
        warned = [one["what"] for each in found.values() for one in each if one["level"] == "warning"]
        assert len(warned) == 1
        assert "the certificate of CN=broker expires on" in warned[0]
        assert of(found, "login")[1].startswith("as the PLAIN user alice; cluster")
        assert of(found, "canary")[0] == "ok"
        assert topics_of(kafka_sasl) == set()

    def test_as_people_read_it(self, plain: Patient):
        done = plain.ask("--no-canary")
        assert done.returncode == OK
        assert f"ok      configuration: {plain.folder / 'kveil.yaml'} can be used\n" in done.stdout
        assert "skipped canary: not sent, as told\n" in done.stdout
        assert done.stderr == ""

    @pytest.mark.parametrize("policy", ["delete", "compact"])
    def test_a_canary_to_a_topic(self, plain: Patient, kafka: Cluster, topic: str, policy: str):
        kafka.create_topic(topic, config={"cleanup.policy": policy})
        code, found = plain.look("--canary", topic)
        assert code == OK, found
        mode = "record" if policy == "compact" else "batch"
        assert f"in {mode} mode" in of(found, "stored")[1]
        assert of(found, "clock")[0] == "skipped"
        stored = kafka.stored_bytes(topic)
        assert (len(stored) > 300, b"kveil-doctor" in stored) == (True, False)

    def test_nothing_is_made_without_canary(self, plain: Patient, kafka: Cluster):
        plain.look("--no-canary")
        assert topics_of(kafka) == set()


class TestNotWell:
    def test_nobody_there(self, plain: Patient):
        with reserved_ports(1) as (port,):
            plain.config["upstream"]["bootstrap"] = [f"127.0.0.1:{port}"]
            code, found = plain.look("orders")
        assert code == FAILED
        assert of(found, "connection")[0] == "failure"
        for check in ("login", "topics", "canary"):
            assert of(found, check)[0] == "skipped"

    def test_another_authority(self, guarded: Patient):
        other = CertificateAuthority(guarded.folder / "other")
        guarded.config["upstream"]["tls"]["ca"] = str(other.path)
        code, found = guarded.look()
        assert code == FAILED
        assert "it shows CN=broker, issued by CN=Kveil test CA" in of(found, "tls")[1]
        assert of(found, "login")[0] == "skipped"

    def test_no_tls_where_the_broker_wants_it(self, guarded: Patient):
        del guarded.config["upstream"]["tls"]
        code, found = guarded.look()
        assert (code, "set upstream.tls" in found["connection"][0]["remedy"]) == (FAILED, True)

    def test_a_wrong_password(self, guarded: Patient):
        guarded.secret("password", "not-alice's")
        code, found = guarded.look()
        assert code == FAILED
        level, said = of(found, "login")
        assert (level, "Authentication failed" in said) == ("failure", True)
        assert "not-alice's" not in json.dumps(found)
        assert of(found, "canary")[0] == "skipped"

    def test_clients_that_log_in_by_themselves(self, guarded: Patient):
        """A client's own properties lend the doctor a login."""
        del guarded.config["upstream"]["sasl"]
        code, found = guarded.look()
        assert (code, of(found, "login")[0]) == (FAILED, "failure")
        properties = guarded.folder / "client.properties"
        properties.touch(mode=0o600)
        properties.write_text(f"sasl.mechanism=SCRAM-SHA-256\nsasl.username=alice\nsasl.password={USERS['alice']}\n")
        code, found = guarded.look("--command-config", str(properties))
        assert (code, level_of(found, "login"), level_of(found, "canary")) == (WARNED, "ok", "ok")

    def test_topics(self, plain: Patient, kafka: Cluster, topic: str):
        """One that is compacted under a rule for batches, one with little room, and one that isn't there."""
        kafka.create_topic(topic, config={"cleanup.policy": "compact", "max.message.bytes": 2_000_000})
        small = f"{topic}-small"
        kafka.create_topic(small, config={"max.message.bytes": 100_000})
        plain.config["topics"] = [{"match": "*", "mode": "batch"}]
        code, found = plain.look(topic, small, f"{topic}-none", "--no-canary")
        assert code == FAILED
        assert of(found, f"topic {topic}")[0] == "failure"
        assert of(found, f"topic {small}")[0] == "warning"
        assert found[f"topic {small}"][0]["remedy"] == f"kveil prepare {small}"
        assert "no such topic" in of(found, f"topic {topic}-none")[1]
        assert plain.look(small, "--no-canary")[0] == WARNED

    def test_a_canary_that_the_broker_refuses(self, plain: Patient, kafka: Cluster, topic: str):
        """As it would refuse what clients send."""
        kafka.create_topic(topic, config={"max.message.bytes": 300})
        code, found = plain.look("--canary", topic)
        level, said = of(found, "canary")
        assert (code, level, "message_too_large" in said.lower()) == (FAILED, "failure", True)

    def test_keys(self, plain: Patient):
        plain.config["topics"] = [{"match": "a.*", "key": "nowhere"}]
        code, found = plain.look()
        assert code == FAILED
        assert any("has no key nowhere" in one["what"] for one in found["keys"])
        assert (of(found, "login")[0], of(found, "canary")[0]) == ("ok", "skipped")

    def test_a_key_file_that_others_may_read(self, plain: Patient):
        plain.keys.chmod(0o644)
        code, found = plain.look("--no-canary")
        assert code == FAILED
        assert found["files"][0]["remedy"] == f"chmod 600 {plain.keys}"
        assert (level_of(found, "keys"), level_of(found, "login")) == ("failure", "ok")

    def test_a_configuration_that_can_not_be_used(self, plain: Patient):
        """All its problems, as `kveil check` tells them."""
        plain.config |= {"listener": [], "workers": 0}
        done = plain.ask()
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (WRONG_CONFIG, "", 2)
        problems = json.loads(plain.ask("--json").stdout)["problems"]
        assert {problem["path"] for problem in problems} == {"listener", "workers"}

    def test_two_wishes_that_exclude_each_other(self, plain: Patient):
        assert plain.ask("--canary", "orders", "--no-canary").returncode == WRONG_CONFIG


@pytest.mark.broker
def test_a_login_without_rights(folder: Path, topic: str):
    """What it may not do is told, and what it may is done."""
    with kafka_cluster(security=Security.SASL_PLAINTEXT, acls=True) as cluster:
        cluster.create_topic(topic)
        patient = with_login(folder, cluster)
        code, found = patient.look(topic)
        assert code == WARNED
        assert "DESCRIBE_CONFIGS" in found[f"topic {topic}"][0]["remedy"]
        level, said = of(found, "canary")
        assert (level, "no temporary topic could be made" in said) == ("warning", True)
        code, found = patient.look("--canary", topic)
        assert (code, of(found, "canary")[0]) == (FAILED, "failure")
        for operation in (AclOperation.WRITE, AclOperation.READ, AclOperation.DESCRIBE_CONFIGS):
            cluster.allow("alice", ResourceType.TOPIC, topic, operation)
        assert level_of(patient.look("--canary", topic)[1], "canary") == "ok"
