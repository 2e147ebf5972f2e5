"""How a broker is run: on this machine's JVM, or in a container. A cluster knows only these verbs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tests.support.jvm import KAFKA_VERSION, broker_artifacts, class_path, java_command
from tests.support.processes import Child, ChildFailedError, Lines, run
from tests.support.start_up_cache import ensure_start_up_cache


class Running(Protocol):
    """A broker that was started."""

    lines: Lines

    @property
    def pid(self) -> int: ...

    @property
    def exit_code(self) -> int | None: ...

    def stop(self) -> int: ...

    def kill(self) -> int: ...


class Launcher(Protocol):
    """Runs Kafka's main classes with files under one work folder."""

    def run(self, main_class: str, *arguments: str) -> None:
        """Run one to its end; raise if it fails."""

    def start(
        self, main_class: str, *arguments: str, log_path: Path, heap_mb: int, options: Sequence[str] = ()
    ) -> Running:
        """Start a long runner."""


class JvmLauncher:
    """Runs them, of one version of Kafka, on the JVM from the Python package."""

    def __init__(
        self,
        version: str = KAFKA_VERSION,
        extra_jars: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        ensure_start_up_cache()
        self._path = None if version == KAFKA_VERSION else class_path(broker_artifacts(version))
        self._extra_jars = extra_jars
        self._environment = {**os.environ, **(environment or {})}

    def run(self, main_class: str, *arguments: str) -> None:
        """Run one to its end; raise if it fails."""
        done = run(java_command(main_class, *arguments, path=self._path), environment=self._environment)
        if done.returncode:
            raise ChildFailedError(f"{main_class} exited with {done.returncode}:\n{done.stdout}{done.stderr}")

    def start(
        self, main_class: str, *arguments: str, log_path: Path, heap_mb: int, options: Sequence[str] = ()
    ) -> Running:
        """Start a long runner."""
        command = java_command(
            main_class,
            *arguments,
            heap_mb=heap_mb,
            options=options,
            extra_jars=self._extra_jars,
            path=self._path,
        )
        return Child(command, log_path=log_path, environment=self._environment)
