"""The JVM's start-up cache (JEP 514): a broker is up in one second instead of three, a tool in half a second.

It is made once for each runtime and set of jars, by a broker that starts and stops, in about ten seconds. A
JVM that can't use the cache says nothing and starts without it.
"""

import functools
import os
import subprocess
import tempfile
from pathlib import Path

from tests.support.broker_config import BrokerPorts, broker_properties, write_properties
from tests.support.jvm import aot_cache_path, java_command
from tests.support.ports import reserved_ports
from tests.support.processes import Child, ChildFailedError, run
from tests.support.security import Security

START_SECONDS = 120.0


@functools.cache
def ensure_start_up_cache() -> None:
    """Make the cache if this machine has none yet."""
    target = aot_cache_path()
    if target.exists():
        return
    if not os.access(target.parent, os.W_OK):
        return
    with tempfile.TemporaryDirectory(prefix="kveil-train-", dir=target.parent) as folder:
        made = Path(folder, "made.aot")
        try:
            _train(Path(folder), made)
        except (ChildFailedError, TimeoutError, subprocess.TimeoutExpired) as problem:
            print(f"no JVM start-up cache was made, brokers start slower: {problem}")
            return
        if made.exists():
            os.replace(made, target)  # another run may have made one at the same time: either will do


def _train(folder: Path, made: Path) -> None:
    config = folder / "server.properties"
    with reserved_ports(3) as (client, internal, controller):
        ports = {0: BrokerPorts(client=client, internal=internal, controller=controller)}
        write_properties(config, broker_properties(0, ports, Security.PLAINTEXT, folder / "data"))
        storage = java_command("kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAA", "-c", str(config))
        formatted = run(storage)
        if formatted.returncode:
            raise ChildFailedError(formatted.stderr or formatted.stdout)
        command = java_command("kafka.Kafka", str(config), options=[f"-XX:AOTCacheOutput={made}"])
        with Child(command, log_path=folder / "log") as broker:
            broker.lines.wait_for("Kafka Server started", START_SECONDS)
            broker.stop(START_SECONDS)
