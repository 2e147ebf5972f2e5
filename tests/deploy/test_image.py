"""The Dockerfile and its lock files; and, where Docker answers, the image itself."""

import json
import re
import subprocess
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.clients import Record, librdkafka_produce, librdkafka_read
from tests.support.containers import docker_answers
from tests.support.kafka import Cluster
from tests.support.ports import reserved_port_range
from tests.support.processes import run
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {
    "requirements.txt": PROJECT["project"]["dependencies"],
    "requirements-build.txt": PROJECT["build-system"]["requires"],
}
MOST_BYTES = 120_000_000
"""Of what is added to the base image."""


def pinned(lock: str) -> dict[str, Requirement]:
    """The lock's packages, each checked for a version and hashes."""
    found = {}
    text = "\n".join(line for line in (ROOT / "deploy" / lock).read_text().splitlines() if not line.startswith("#"))
    for entry in text.replace("\\\n", "").splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", entry.strip())
        assert hashes, entry
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), requirement
        pin = Requirement(requirement)
        assert re.fullmatch(r"==[^*,]+", str(pin.specifier)), requirement
        found[canonicalize_name(pin.name)] = pin
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_what_the_project_asks_for(lock):
    """If not: `make lock`."""
    pins = pinned(lock)
    for wanted in map(Requirement, LOCKS[lock]):
        version = str(pins[canonicalize_name(wanted.name)].specifier).removeprefix("==")
        assert wanted.specifier.contains(version, prereleases=True), f"{wanted} is locked at {version}: make lock"


def test_a_lock_has_no_registry_of_its_own():
    for lock in LOCKS:
        assert "://" not in (ROOT / "deploy" / lock).read_text()


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)


def test_nothing_is_installed_without_a_hash():
    installs = [line for line in instructions("RUN") if re.search(r"\bpip\b.* (install|wheel) ", line)]
    assert len(installs) == 3
    for line in installs:
        for step in line.split("&&"):
            assert "--require-hashes" in step or {"--no-index", "--no-deps"} <= set(step.split())
    assert "PIP_ONLY_BINARY=:all:" in DOCKERFILE


def test_it_needs_no_rights_and_no_shell():
    assert instructions("USER") == ["65532:65532"]
    for name in ("ENTRYPOINT", "CMD"):
        (command,) = instructions(name)
        assert json.loads(command)
    (health,) = instructions("HEALTHCHECK")
    assert json.loads(health[health.index("CMD ") + 4 :])[:2] == ["kveil", "health"]


def test_what_is_copied_is_let_in():
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {path for line in instructions("COPY") if "--from" not in line for path in line.split()[:-1]}
    assert copied == let_in
    assert all((ROOT / path).exists() for path in copied)


# The image -------------------------------------------------------------------------------------------------------


def docker(*arguments: str, timeout: float = 120.0) -> str:
    done = run(["docker", *arguments], timeout=timeout)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image() -> str:
    if not docker_answers():
        pytest.skip("Docker does not answer")
    (base,) = (each.partition("=")[2] for each in instructions("ARG") if each.startswith("BASE="))
    if run(["docker", "image", "inspect", base]).returncode and run(["docker", "pull", base]).returncode:
        pytest.skip(f"{base} can't be had from Docker")
    name = "kveil-test-image"
    docker("build", "--network=host", "-t", name, str(ROOT), timeout=1200)
    return name


class Container:
    """The proxy from the image, with as few rights as there are, and its keys on a volume."""

    def __init__(self, image: str, folder: Path, config: Mapping[str, Any]) -> None:
        path = folder / "kveil.yaml"
        path.write_text(yaml.safe_dump(dict(config)))
        path.chmod(0o644)
        self.name = f"kveil-test-{uuid.uuid4().hex[:8]}"
        self._few_rights = ["--network=host", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        self._few_rights += ["-v", f"{path}:/etc/kveil/kveil.yaml:ro", "-v", f"{self.name}:/var/lib/kveil"]
        docker("volume", "create", self.name)
        docker("run", "--rm", *self._few_rights, image, "keys", "init", "--keys", "/var/lib/kveil/keys.json")
        docker("run", "--detach", "--name", self.name, *self._few_rights, image)

    def log(self) -> str:
        done = run(["docker", "logs", self.name])
        return done.stdout + done.stderr

    def health(self) -> subprocess.CompletedProcess[str]:
        return run(["docker", "exec", self.name, "kveil", "health"])

    def state(self) -> dict[str, Any]:
        return dict(json.loads(docker("inspect", "--format", "{{json .State}}", self.name)))

    def remove(self) -> None:
        run(["docker", "rm", "--force", self.name])
        run(["docker", "volume", "rm", "--force", self.name])


@pytest.fixture
def container(image: str, kafka: Cluster, tmp_path: Path) -> Iterator[tuple[Container, str]]:
    with reserved_port_range(5) as port:
        config = {
            "listeners": [{"address": f"127.0.0.1:{port}"}],
            "broker_ports": {"count": 4},
            "upstream": {"bootstrap": kafka.bootstrap.split(",")},
            "keys": {"path": "/var/lib/kveil/keys.json"},
        }
        running = Container(image, tmp_path, config)
        try:
            wait_until(lambda: '"listening"' in running.log())
            yield running, f"127.0.0.1:{port}"
        finally:
            running.remove()


@pytest.mark.full
def test_it_runs_without_rights(kafka: Cluster, container: tuple[Container, str], topic: str):
    """On a read-only file system, without capabilities: seals, says that it is well, and drains when told to stop."""
    running, bootstrap = container
    kafka.create_topic(topic)
    librdkafka_produce(bootstrap, topic, [Record(value=b"from a container")])
    assert [record.value for record in librdkafka_read(bootstrap, topic)] == [b"from a container"]
    assert b"from a container" not in kafka.stored_bytes(topic)
    assert running.health().stdout == f"listener {bootstrap} answers\n"
    docker("stop", running.name)
    assert running.state()["ExitCode"] == 0
    assert '"draining"' in running.log()
    assert '"stopped"' in running.log()


@pytest.mark.full
def test_it_is_small(image: str):
    layers = docker(
        "history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", image
    ).splitlines()
    (added,) = [int(line.split()[0]) for line in layers if "/opt/kveil" in line and "COPY" in line]
    assert 10_000_000 < added < MOST_BYTES
