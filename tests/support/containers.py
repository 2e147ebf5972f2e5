"""Brokers in containers where Docker answers, on this machine's JVM otherwise.

`KVEIL_KAFKA` chooses: `auto` (the default), `jvm`, or `docker` (which fails where Docker does).
`KVEIL_KAFKA_IMAGE` names an image that has Kafka's jars in /opt/kafka/libs and `java` on its path, such as
apache/kafka; without it an image is built from kafka-image/Dockerfile. Brokers use the host's network, so
that ports and addresses are the same either way.
"""

import functools
import os
import socket
import subprocess
from pathlib import Path

from tests.support.jvm import ARTIFACTS, KAFKA_VERSION
from tests.support.launcher import JvmLauncher, Launcher
from tests.support.processes import ChildFailedError, run

OWN_IMAGE = f"kveil-test-kafka:{KAFKA_VERSION}"
_BUILD_SECONDS = 900.0
_USUAL_SOCKET = "unix:///var/run/docker.sock"


def image_name() -> str:
    """The image that brokers run from."""
    return os.environ.get("KVEIL_KAFKA_IMAGE", OWN_IMAGE)


def choose_launcher(work: Path) -> Launcher:
    """A launcher for files below this folder, as the environment says and the machine allows."""
    wanted = os.environ.get("KVEIL_KAFKA", "auto")
    if wanted == "jvm":
        return JvmLauncher()
    problem = docker_problem()
    if problem is None:
        from tests.support.container_launcher import ContainerLauncher

        return ContainerLauncher(image_name(), work)
    if wanted == "docker":
        raise RuntimeError(f"no Kafka in a container: {problem}")
    return JvmLauncher()


@functools.cache
def docker_problem() -> str | None:
    """Why containers can't be used, or None. Said once where Docker is there but an image isn't."""
    if not _docker_answers():
        return "Docker does not answer"
    # Docker's own packages are for those who have it: they take time to import, and leak a socket without it.
    from docker.errors import DockerException

    from tests.support.container_launcher import run_in_container

    try:
        _ensure_image()
        run_in_container(image_name(), ["-version"])
    except (DockerException, ChildFailedError, subprocess.TimeoutExpired) as problem:
        print(f"{image_name()} can't be had from Docker, so brokers run on this machine's JVM: {problem}")
        return str(problem)
    return None


def _docker_answers() -> bool:
    host = os.environ.get("DOCKER_HOST", _USUAL_SOCKET)
    if not host.startswith("unix://"):
        return True  # who names a host means it
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(host.removeprefix("unix://")) == 0


def _ensure_image() -> None:
    name = image_name()
    if run(["docker", "image", "inspect", name]).returncode == 0:
        return
    command = ["docker", "pull", name] if name != OWN_IMAGE else _build_command()
    done = run(command, timeout=_BUILD_SECONDS)
    if done.returncode:
        raise ChildFailedError(f"{' '.join(command[:2])}: {done.stderr[-2000:]}")


def _build_command() -> list[str]:
    folder = Path(__file__).with_name("kafka-image")
    # The host's network, since a daemon may have no other.
    options = ("--network", "host", "--build-arg", "ARTIFACTS=" + "+".join(ARTIFACTS))
    return ["docker", "build", "-t", OWN_IMAGE, *options, str(folder)]
