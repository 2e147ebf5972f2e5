"""deploy/compose: a broker, Kveil before it, and console clients."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from kveil.proxy.config import load
from kveil.proxy.policy import Policy
from tests.support.jvm import KAFKA_VERSION
from tests.support.processes import run

FOLDER = Path(__file__).parents[2] / "deploy" / "compose"
FILE = FOLDER / "compose.yaml"


@pytest.fixture
def services() -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load(FILE.read_text())["services"])


def option(service: dict[str, Any], name: str) -> str:
    words = service["command"].split()
    return str(words[words.index(name) + 1])


def test_clients_reach_kveil_and_peek_the_broker(services):
    settings = load(FOLDER / "kveil.yaml", {})
    kveil = str(settings.listeners[0].address)
    (broker,) = map(str, settings.upstream.bootstrap)
    servers = {name: option(services[name], "--bootstrap-server") for name in ("produce", "consume", "peek")}
    assert servers == {"produce": kveil, "consume": kveil, "peek": broker}
    assert len({option(services[name], "--topic") for name in servers}) == 1
    assert f"PLAINTEXT://{broker}" == services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert int(services["kafka"]["environment"]["KAFKA_NODE_ID"]) < settings.broker_ports.count


def test_the_key_file_is_made_where_it_is_read(services):
    settings = load(FOLDER / "kveil.yaml", {})
    assert option(services["keys"], "--keys") == str(settings.keys.path)
    assert Policy(settings).rule_for("demo").seal


def test_kveil_has_no_rights(services):
    for name in ("kveil", "keys"):
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert not service.keys() & {"privileged", "cap_add", "user"}


def test_nothing_is_reached_from_elsewhere(services):
    assert all(service["network_mode"] == "host" and "ports" not in service for service in services.values())
    listeners = services["kafka"]["environment"]["KAFKA_LISTENERS"].split(",")
    assert all("//127.0.0.1:" in listener for listener in listeners)


def test_the_kafka_is_the_one_that_is_tested(services):
    assert services["kafka"]["image"] == f"${{KAFKA_IMAGE:-apache/kafka:{KAFKA_VERSION}}}"


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not here")
def test_compose_understands_it():
    done = run(["docker-compose", "--file", str(FILE), "config", "--quiet"], environment=dict(os.environ))
    assert (done.returncode, done.stderr) == (0, "")
