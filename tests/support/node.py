"""One broker of a test cluster: its files, and its life."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.broker_config import BrokerPorts, write_properties
from tests.support.launcher import Launcher, Running

START_SECONDS = 120.0


class BrokerNode:
    """A node that can be stopped, killed and started again with the same ports and data."""

    def __init__(
        self,
        node_id: int,
        ports: BrokerPorts,
        folder: Path,
        launcher: Launcher,
        *,
        heap_mb: int,
        options: Sequence[str],
    ) -> None:
        self.id = node_id
        self.ports = ports
        self._launcher = launcher
        self._heap_mb = heap_mb
        self._options = options
        folder.mkdir(parents=True)
        self.data_dir = folder / "data"
        self.config_path = folder / "server.properties"
        self.log_path = folder / "broker.log"
        self._running: Running | None = None

    @property
    def port(self) -> int:
        """The port for clients."""
        return self.ports.client

    @property
    def address(self) -> str:
        """Where clients reach this node."""
        return f"127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether it was started and hasn't ended."""
        return self._running is not None and self._running.exit_code is None

    @property
    def pid(self) -> int:
        """The process id of the running broker."""
        assert self._running is not None
        return self._running.pid

    def log_text(self) -> str:
        """All it has logged over all its starts."""
        return self.log_path.read_text() if self.log_path.exists() else ""

    def configure(self, settings: Mapping[str, str]) -> None:
        """Write its server.properties; a running node reads it at its next start."""
        write_properties(self.config_path, settings)

    def format(self, cluster_id: str, arguments: Sequence[str]) -> None:
        """Prepare its empty data directory."""
        config = str(self.config_path)
        self._launcher.run("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", config, *arguments)

    def launch(self) -> None:
        """Start it, without waiting until it is up."""
        assert not self.running, f"node {self.id} runs already"
        self._running = self._launcher.start(
            "kafka.Kafka",
            str(self.config_path),
            log_path=self.log_path,
            heap_mb=self._heap_mb,
            options=self._options,
        )

    def wait_until_started(self) -> None:
        """Wait for its own word that it serves; raise with its log if it ended instead."""
        assert self._running is not None
        self._running.lines.wait_for("Kafka Server started", START_SECONDS)

    def stop(self) -> None:
        """End it in order: it hands its partitions over and flushes."""
        self._end(in_order=True)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(in_order=False)

    def _end(self, *, in_order: bool) -> None:
        if self._running is not None:
            if in_order:
                self._running.stop()
            else:
                self._running.kill()
            self._running = None
