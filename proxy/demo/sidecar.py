"""The proxy as users run it: `kveil run` as a process of its own, with configuration and keys in a temporary place."""

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from kveil.proxy.demo.clusters import Cluster
from kveil.proxy.demo.errors import DemoFailed
from kveil.proxy.keys.keyfile import new_key_file
from kveil.proxy.keys.keyfile_store import create_key_file

PORT: Final = 5000
BROKER_PORTS: Final = 4  # the mock cluster's node ids are 1 to 3
START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 10.0
_PR_SET_PDEATHSIG: Final = 1
_LOOK_SECONDS: Final = 0.02
_ALL_PORTS: Final = 65_536


class Sidecar:
    """The running proxy."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
        self._process = process
        self.port = port
        self.log_path = folder / "kveil.log"
        self.config_path = folder / "kveil.yaml"
        self.bootstrap = f"localhost:{port}"

    @property
    def has_ended(self) -> bool:
        """Whether it ended, which it should not by itself."""
        return self._process.poll() is not None

    def wait_until_it_listens(self) -> None:
        """Wait for its port to answer.

        :raises DemoFailed: it ended instead, or took too long.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and not self.has_ended:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(_LOOK_SECONDS)
        raise DemoFailed(f"the proxy didn't start; it said:\n{self.log_path.read_text()[-2000:]}")

    def stop(self) -> None:
        """End it with SIGTERM, which drains, or by force when it doesn't."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def running_sidecar(cluster: Cluster) -> Iterator[Sidecar]:
    """A proxy in front of the cluster, with new keys, for the length of a `with` block."""
    with tempfile.TemporaryDirectory(prefix="kveil-demo-") as name:
        folder = Path(name)
        port = choose_port()
        keys = folder / "keys.json"
        create_key_file(keys, new_key_file(realm="demo"))
        config = folder / "kveil.yaml"
        config.write_text(json.dumps(_settings(cluster, port, keys), indent=2))  # JSON is YAML too
        with (folder / "kveil.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [*_command(), "run", "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we end it in order
            )
        sidecar = Sidecar(process, port, folder)
        try:
            sidecar.wait_until_it_listens()
            yield sidecar
        finally:
            sidecar.stop()


def _command() -> list[str]:
    """`kveil`, as a process that Linux ends with this one, even if this one is killed."""
    if sys.platform != "linux":
        return [sys.executable, "-m", "kveil.proxy"]
    tie = (
        f"import ctypes, os, sys; ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {int(signal.SIGTERM)}); "
        "os.execv(sys.executable, [sys.executable, '-m', 'kveil.proxy', *sys.argv[1:]])"
    )
    return [sys.executable, "-c", tie]


def _settings(cluster: Cluster, port: int, keys: Path) -> dict[str, object]:
    return {
        "listeners": [{"address": f"127.0.0.1:{port}"}],
        "broker_ports": {"count": BROKER_PORTS},
        "upstream": {"bootstrap": cluster.bootstrap.split(",")},
        "keys": {"provider": "keyfile", "path": str(keys)},
        "topics": [{"match": "*", "mode": cluster.mode}],
        "log": {"format": "json"},
    }


def choose_port(first: int = PORT) -> int:
    """`first`, or where it or a broker port behind it is taken, another one that has enough free ones behind it."""
    for port in range(first, _ALL_PORTS - BROKER_PORTS, 100):
        if _are_free(port, 1 + BROKER_PORTS):
            return port
    raise DemoFailed(f"no {1 + BROKER_PORTS} local ports in a row are free")


def _are_free(port: int, count: int) -> bool:
    with ExitStack() as stack:
        for each in range(port, port + count):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", each))
                sock.listen(1)  # a bound port that listens elsewhere may still be bound a second time
            except OSError:
                return False
    return True
