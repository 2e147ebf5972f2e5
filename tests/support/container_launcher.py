"""Kafka's main classes in containers, with the verbs of launcher.py."""

import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from docker.models.containers import Container
from testcontainers.core.container import DockerContainer

from tests.support.jvm import LOG_CONFIG, java_options
from tests.support.launcher import Running
from tests.support.processes import STOP_SECONDS, ChildFailedError, Lines

_LIBS = "/opt/kafka/libs/*"


def _container(image: str, arguments: Sequence[str], work: Path | None = None) -> DockerContainer:
    """A container that isn't started yet, as the user who runs the tests: the files stay theirs."""
    container = DockerContainer(image).with_command(list(arguments))
    if work:
        container = container.with_volume_mapping(work, str(work), "rw")
    user = f"{os.getuid()}:{os.getgid()}"
    return container.with_kwargs(network_mode="host", user=user, entrypoint=["java"])


def run_in_container(image: str, arguments: Sequence[str], work: Path | None = None) -> str:
    """Run java with these arguments to its end; gives what it said, or raises with it."""
    with _container(image, arguments, work) as container:
        inside = container.get_wrapped_container()
        code = inside.wait()["StatusCode"]
        said = inside.logs().decode(errors="replace")
    if code:
        raise ChildFailedError(f"{arguments} exited with {code}:\n{said}")
    return said


def _text_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") + "\n" for line in whole)
    if rest:
        yield rest.decode(errors="replace")


class ContainerProcess:
    """A broker in a container, with the verbs of a child process."""

    def __init__(self, container: DockerContainer, log_path: Path) -> None:
        self.lines = Lines()
        self._outer = container.start()
        self._inner: Container = container.get_wrapped_container()
        self._exit_code: int | None = None
        chunks = self._inner.logs(stream=True, follow=True)
        self._reader = threading.Thread(target=self.lines.follow, args=(_text_lines(chunks), log_path), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id on this machine."""
        self._inner.reload()
        return int(self._inner.attrs["State"]["Pid"])

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        if self._exit_code is None:
            self._inner.reload()
            if self._inner.status in {"exited", "dead"}:
                return int(self._inner.attrs["State"]["ExitCode"])
        return self._exit_code

    def stop(self) -> int:
        """Ask it to end, and kill it when it doesn't."""
        self._inner.stop(timeout=int(STOP_SECONDS))
        return self._remove()

    def kill(self) -> int:
        """End it at once."""
        if self.exit_code is None:
            self._inner.kill()
        return self._remove()

    def _remove(self) -> int:
        self._exit_code = int(self._inner.wait()["StatusCode"])
        self._reader.join(STOP_SECONDS)
        self._outer.stop()
        return self._exit_code


class ContainerLauncher:
    """Runs Kafka's main classes in containers that see the work folder under its own name."""

    def __init__(self, image: str, work: Path) -> None:
        self._image = image
        self._work = work
        self._log_config = Path(shutil.copy(LOG_CONFIG, work))

    def _arguments(self, heap_mb: int, options: Sequence[str], main_class: str, *arguments: str) -> list[str]:
        usual = java_options(heap_mb, self._log_config)
        return [*usual, *options, "-cp", _LIBS, main_class, *arguments]

    def run(self, main_class: str, *arguments: str) -> None:
        """Run one to its end; raise if it fails."""
        run_in_container(self._image, self._arguments(256, (), main_class, *arguments), self._work)

    def start(
        self, main_class: str, *arguments: str, log_path: Path, heap_mb: int, options: Sequence[str] = ()
    ) -> Running:
        """Start a long runner."""
        line = self._arguments(heap_mb, options, main_class, *arguments)
        return ContainerProcess(_container(self._image, line, self._work), log_path)
