"""What the README says to a newcomer: install, make keys, run, and the usual console tools."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.support import java
from tests.support.kafka import Cluster
from tests.support.ports import reserved_port_range
from tests.support.processes import Child, run

ROOT = Path(__file__).parents[2]
INSTALL_SECONDS = 300.0
SECONDS = 60.0
PORTS = 101


@pytest.fixture(scope="module")
def kveil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, installed by pip from this folder into an environment of its own."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    # Without pip of its own: this one installs into it, and is faster than to copy another.
    made = run([sys.executable, "-m", "venv", "--without-pip", str(home)])
    assert made.returncode == 0, made.stderr
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "--disable-pip-version-check"]
    done = run([*pip, "install", "--quiet", "--no-compile", str(ROOT)], timeout=INSTALL_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return home / "bin" / "kveil"


def test_from_nothing_to_sealed(kafka: Cluster, kveil: Path, topic: str, tmp_path: Path):
    """Away from the sources, and with nothing of this environment."""
    kafka.create_topic(topic)
    keys = tmp_path / "keys.json"
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment["KVEIL_KEYS__PATH"] = str(keys)
    made = run([str(kveil), "keys", "init"], environment=environment, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert keys.stat().st_mode & 0o777 == 0o600
    with reserved_port_range(PORTS) as port:
        address = f"127.0.0.1:{port}"
        flags = ("run", "--upstream", kafka.bootstrap, "--listen", address)
        with Child([str(kveil), *flags], environment=environment, cwd=tmp_path) as child:
            child.errors.wait_for("listening", SECONDS)
            reach = ("--bootstrap-server", address, "--topic", topic)
            java.java_tool(java.CONSOLE_PRODUCER, *reach, stdin="hello\nworld\n")
            limits = ("--from-beginning", "--max-messages", "2", "--timeout-ms", "60000")
            assert java.java_tool(java.CONSOLE_CONSUMER, *reach, *limits).stdout == "hello\nworld\n"
            assert child.stop() == 0
    assert not kafka.contains(b"hello\x00")
    assert b"hello" not in kafka.stored_bytes(topic)
    assert b"\xc5\x4b\x56" in kafka.stored_bytes(topic)


def test_the_man_page_came_along(kveil: Path, tmp_path: Path):
    """Where `man` looks for what is in `PATH`."""
    page = kveil.parents[1] / "share" / "man" / "man1" / "kveil.1"
    assert page.read_text() == (ROOT / "deploy" / "kveil.1").read_text()
    if shutil.which("man"):
        environment = {"PATH": f"{kveil.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
        assert run(["man", "-w", "kveil"], environment=environment).stdout.strip() == str(page)


def test_only_what_it_needs(kveil: Path):
    """The names of the wheel don't get in anyone's way, and no test tool came with it."""
    site = next((kveil.parents[1] / "lib").glob("python*/site-packages"))
    installed = {path.name for path in site.iterdir()}
    assert "kveil" in installed
    assert not installed & {"proxy", "protocol", "tests", "confluent_kafka", "aiokafka", "pytest"}
