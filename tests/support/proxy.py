"""The proxy as users run it: the installed command, as a child process, over a configuration in a file.

with kveil_proxy(cluster.bootstrap, topics=[{"match": "*", "mode": "batch"}]) as proxy:
    Producer({"bootstrap.servers": proxy.bootstrap})
"""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.support.ports import reserved_port_range
from tests.support.processes import Child, ChildFailedError, run

BROKER_PORTS = 4
START_SECONDS = 30.0
KVEIL = (sys.executable, "-m", "kveil.proxy")


class Proxy:
    """A proxy with its configuration, keys and port. It may be stopped and started again."""

    def __init__(self, folder: Path, port: int, config: Mapping[str, Any]) -> None:
        self.folder = folder
        self.port = port
        self.bootstrap = f"127.0.0.1:{port}"
        self.keys = folder / "keys.json"
        self.config = dict(config)
        self.config_path = folder / "kveil.yaml"
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.child.pid

    @property
    def child(self) -> Child:
        """The process that runs, or ran last."""
        assert self._child is not None, "it was not started"
        return self._child

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.configure()
        self._child = Child([*KVEIL, "run", "-c", str(self.config_path)])
        try:
            self._child.errors.wait_for('"listening"', START_SECONDS)
        except ChildFailedError:
            self._child.wait(START_SECONDS)
            raise

    def configure(self, **changes: Any) -> None:
        """Write its configuration file, with these keys of the top level changed. It takes them up when told to."""
        self.config |= changes
        self.config_path.write_text(yaml.safe_dump(self.config))

    def stop(self) -> int:
        """End it with SIGTERM, which drains, and return its exit code."""
        return self.child.stop()

    def kill(self) -> int:
        """End it with SIGKILL."""
        return self.child.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        subprocess.run(["kill", f"-{number.value}", str(self.pid)], check=True)

    def log(self) -> list[dict[str, Any]]:
        """Its log up to now, a mapping a line."""
        return [json.loads(line) for line in self.child.errors.so_far() if line.startswith("{")]

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of one kind."""
        return [line for line in self.log() if line["event"] == name]

    def wait_for_event(self, name: str, timeout: float = 30.0) -> dict[str, Any]:
        """Wait for a log line of one kind and return it."""
        line: dict[str, Any] = json.loads(self.child.errors.wait_for(f'"event": "{name}"', timeout))
        return line


def kveil(*arguments: str, stdin: str | None = None, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run one of its commands to the end."""
    return run([*KVEIL, *arguments], stdin=stdin, timeout=timeout)


@contextmanager
def kveil_proxy(
    upstream: str,
    *,
    topics: Sequence[Mapping[str, Any]] = (),
    keys: Path | None = None,
    direction: str = "both",
    tls: Mapping[str, Any] | None = None,
    to_cluster: Mapping[str, Any] | None = None,
    start: bool = True,
    broker_ports: int = BROKER_PORTS,
    config: Mapping[str, Any] | None = None,
) -> Iterator[Proxy]:
    """A running proxy. `keys` shares another one's key file, `to_cluster` is more of `upstream`, `config` is laid over
    everything else.
    """
    with tempfile.TemporaryDirectory(prefix="kveil-") as name, reserved_port_range(1 + broker_ports) as port:
        folder = Path(name)
        settings: dict[str, Any] = {
            "listeners": [{"address": f"127.0.0.1:{port}", "direction": direction}],
            "broker_ports": {"count": broker_ports},
            "upstream": {
                "bootstrap": upstream.split(","),
                **({} if tls is None else {"tls": dict(tls)}),
                **(to_cluster or {}),
            },
            "keys": {"provider": "keyfile", "path": str(keys or folder / "keys.json")},
            "topics": [dict(topic) for topic in topics],
            "log": {"format": "json", "level": "debug"},
            **(config or {}),
        }
        proxy = Proxy(folder, port, settings)
        if keys is None:
            made = kveil("keys", "init", "--keys", str(proxy.keys))
            assert made.returncode == 0, made.stderr
        else:
            proxy.keys = keys
        if start:
            proxy.start()
        try:
            yield proxy
        finally:
            if proxy._child is not None and proxy._child.exit_code is None:
                proxy.kill()
