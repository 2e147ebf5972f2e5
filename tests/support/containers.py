"""Brokers in containers where Docker answers, on this machine's JVM otherwise.

`TEST_KAFKA` chooses: `auto` (the default), `jvm`, or `docker` (which fails where Docker does).
`TEST_KAFKA_IMAGE` names an image that has Kafka's jars in /opt/kafka/libs and `java` on its path, such as
apache/kafka; without it an image is built from kafka-image/Dockerfile. Brokers use the host's network, so
that ports and addresses are the same either way.
"""

import functools
import os
import socket
import subprocess
from pathlib import Path

from tests.support.jvm import KAFKA_VERSION, broker_artifacts
from tests.support.launcher import JvmLauncher, Launcher
from tests.support.processes import ChildFailedError, run

_BUILD_SECONDS = 900.0
_USUAL_SOCKET = "unix:///var/run/docker.sock"


def own_image(version: str) -> str:
    """The image that is built here."""
    return f"kveil-test-kafka:{version}"


def image_name(version: str = KAFKA_VERSION) -> str:
    """The image that brokers run from. The environment names one of the usual version only."""
    named = os.environ.get("TEST_KAFKA_IMAGE")
    return named if named and version == KAFKA_VERSION else own_image(version)


def choose_launcher(work: Path, version: str) -> Launcher:
    """A launcher for files below this folder, as the environment says and the machine allows."""
    wanted = os.environ.get("TEST_KAFKA", "auto")
    if wanted == "jvm":
        return JvmLauncher(version)
    problem = docker_problem(version)
    if problem is None:
        from tests.support.container_launcher import ContainerLauncher

        return ContainerLauncher(image_name(version), work)
    if wanted == "docker":
        raise RuntimeError(f"no Kafka in a container: {problem}")
    return JvmLauncher(version)


@functools.cache
def docker_problem(version: str) -> str | None:
    """Why containers can't be used, or None. Said once where Docker is there but an image isn't."""
    if not docker_answers():
        return "Docker does not answer"
    # Docker's own packages are for those who have it: they take time to import, and leak a socket without it.
    from docker.errors import DockerException

    from tests.support.container_launcher import run_in_container

    try:
        _ensure_image(version)
        run_in_container(image_name(version), ["-version"])
    except (DockerException, ChildFailedError, subprocess.TimeoutExpired) as problem:
        print(f"{image_name(version)} can't be had from Docker, so brokers run on this machine's JVM: {problem}")
        return str(problem)
    return None


def docker_answers() -> bool:
    """Whether there is a daemon that can be asked."""
    host = os.environ.get("DOCKER_HOST", _USUAL_SOCKET)
    if not host.startswith("unix://"):
        return True  # who names a host means it
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(host.removeprefix("unix://")) == 0


def _ensure_image(version: str) -> None:
    name = image_name(version)
    if run(["docker", "image", "inspect", name]).returncode == 0:
        return
    command = ["docker", "pull", name] if name != own_image(version) else _build_command(version)
    done = run(command, timeout=_BUILD_SECONDS)
    if done.returncode:
        raise ChildFailedError(f"{' '.join(command[:2])}: {done.stderr[-2000:]}")


def _build_command(version: str) -> list[str]:
    folder = Path(__file__).with_name("kafka-image")
    # The host's network, since a daemon may have no other.
    options = ("--network", "host", "--build-arg", "ARTIFACTS=" + "+".join(broker_artifacts(version)))
    return ["docker", "build", "-t", own_image(version), *options, str(folder)]
