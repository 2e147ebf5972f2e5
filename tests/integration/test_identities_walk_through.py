"""What docs/identities.md tells to type, on four hosts, at a cluster that wants SASL_SSL, with Kafka's own tools."""

import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from tests.support.jvm import java_command
from tests.support.kafka import Cluster
from tests.support.pages import ROOT, Shell, blocks
from tests.support.ports import reserved_port_range
from tests.support.processes import Child
from tests.support.security import Login, Security, login, properties_text
from tests.support.start_up_cache import ensure_start_up_cache

SECONDS = 60.0
PORTS = 5
PAGE = ROOT / "docs" / "identities.md"
BY_AUTHORITY, _, ON_CONSUMER, ON_PRODUCER, BY_CLIENTS = (
    block.lines for block in blocks(PAGE) if block.section == "From nothing to a sealed topic"
)
CONFIG = PAGE.read_text().partition("```yaml\n")[2].partition("```")[0]
TOOLS = {
    "kafka-topics": "TopicCommand",
    "kafka-console-producer": "ConsoleProducer",
    "kafka-console-consumer": "consumer.ConsoleConsumer",
}


class Host:
    """A machine of its own: a home, a configuration, and what is typed there."""

    def __init__(self, folder: Path, cluster: Cluster, own: Login) -> None:
        assert cluster.certificates is not None
        folder.mkdir()
        self.folder = folder
        (folder / "bin").mkdir()
        path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {"PATH": path, "HOME": str(folder), "KAFKA_PASSWORD": own.password}
        if "PYTHONPATH" in os.environ:
            self.environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        config = yaml.safe_load(CONFIG)
        config["upstream"] |= {
            "bootstrap": cluster.bootstrap.split(","),
            "tls": {"ca": str(cluster.certificates.authority.path)},
        }
        config["upstream"]["own_sasl"]["username"] = own.username
        config |= {"identity": {"path": str(folder / "identity")}, "broker_ports": {"count": PORTS - 1}}
        (folder / "kveil.yaml").write_text(yaml.safe_dump(config))
        clients = cluster.java_settings(login("alice"), security=Security.SASL_PLAINTEXT)
        (folder / "client.properties").write_text(properties_text(clients))
        for tool, main_class in TOOLS.items():
            script = folder / "bin" / tool
            command = shlex.join(java_command(f"org.apache.kafka.tools.{main_class}"))
            script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            script.chmod(0o755)

    def here(self, line: str) -> str:
        """A line with this host's directory in the place of root's own, which is the machine's."""
        return re.sub(r"^kveil authority \w+", rf"\g<0> --authority {self.folder}/authority", line)

    def type(self, line: str, stdin: str = "") -> str:
        """Run a line to its end, which must be a good one."""
        with Shell(self.environment, self.folder) as shell:
            said = shell.type(self.here(line), stdin, SECONDS)
            assert shell.code == 0, shell.errors.so_far()
        return "\n".join(said)

    @contextmanager
    def staying(self, line: str, until: str) -> Iterator[Child]:
        """Run a line in a shell of its own, from when it says `until` on, and stop it in the end."""
        with Child(["bash", "-c", f"exec {self.here(line)}"], environment=self.environment, cwd=self.folder) as child:
            child.errors.wait_for(until, SECONDS)
            yield child
            assert child.stop() == 0


def test_what_the_page_says(kafka_sasl: Cluster, tmp_path: Path):
    """An authority, a consumer and two producers; all three of Kafka's tools; then the broker is looked at."""
    ensure_start_up_cache()
    *before, run_authority = BY_AUTHORITY
    with ExitStack() as stack:
        hosts = {
            name: Host(tmp_path / name, kafka_sasl, login("bob"))
            for name in ("authority", "consumer", "producer1", "producer2")
        }
        authority = hosts["authority"]
        for line in before:
            authority.type(line)
        authority.type(next(line for line in before if "producer1" in line).replace("producer1", "producer2"))
        with authority.staying(run_authority, "authority_running"):
            pass  # the topic is there
        stack.callback(kafka_sasl.delete_topic, "_kveil.control")  # the cluster is shared
        stack.enter_context(authority.staying(run_authority, "authority_running"))

        def start(name: str, lines: tuple[str, str], default: int) -> str:
            """Type a host's lines, on a free port in the place of the default one, and give its address."""
            enroll, serve = lines
            host = hosts[name]
            (authority.folder / f"{name}.ticket").rename(host.folder / f"{name}.ticket")
            host.type(enroll)
            port = stack.enter_context(reserved_port_range(PORTS))
            command = f"{serve.partition('#')[0]} --listen 127.0.0.1:{port}"
            assert f"localhost:{default}" in serve
            stack.enter_context(host.staying(command, "listening"))
            return f"localhost:{port}"

        consumer = start("consumer", tuple(ON_CONSUMER), 4000)
        create, produce, consume = (line.replace("localhost:4000", consumer) for line in BY_CLIENTS)
        hosts["consumer"].type(create)
        stack.callback(kafka_sasl.delete_topic, "demo-orders")
        for name in ("producer1", "producer2"):
            address = start(name, tuple(line.replace("producer1", name) for line in ON_PRODUCER), 5000)
            hosts[name].type(produce.replace("localhost:5000", address), f"name=Ada by {name}")
        read = hosts["consumer"].type(f"{consume} --max-messages 2 --timeout-ms 30000")
        assert sorted(read.splitlines()) == ["name=Ada by producer1", "name=Ada by producer2"]

        stored = kafka_sasl.stored_bytes("demo-orders")
        assert stored.count(b"\xc5KV\x01\x01\x01") == 2
        assert b"Ada" not in stored
