"""What keeps the proxy from starting: exit code 2, a sentence that helps, and nothing left running."""

import socket
from pathlib import Path

import pytest
import yaml

from tests.support.ports import reserved_port_range
from tests.support.processes import ChildFailedError
from tests.support.proxy import BROKER_PORTS, Proxy, kveil, kveil_proxy

NOWHERE = "127.0.0.1:1"


def refusal(proxy: Proxy, **changes: object) -> str:
    """What it says on its way out. `changes` are laid over its configuration."""
    path = proxy.folder / "refused.yaml"
    path.write_text(yaml.safe_dump({**proxy.config, **changes}))
    done = kveil("run", "-c", str(path))
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert "Traceback" not in said
    assert all(line.startswith("kveil: ") for line in done.stderr.splitlines()), said
    return done.stderr


@pytest.fixture
def proxy():
    with kveil_proxy(NOWHERE, start=False) as waiting:
        yield waiting


def test_it_would_start(proxy: Proxy):
    """So what follows fails for its own reason alone; also with no broker in reach."""
    proxy.start()
    assert proxy.stop() == 0


@pytest.mark.parametrize("step", [0, 1, BROKER_PORTS])
def test_port_in_use(proxy: Proxy, step: int):
    """The port that clients connect to first, or a broker's: each says what it is for."""
    with socket.create_server(("127.0.0.1", proxy.port + step)):
        said = refusal(proxy)
    assert str(proxy.port + step) in said
    assert "in use" in said
    assert ("clients connect to first" if step == 0 else f"node id {step - 1}") in said
    assert "listeners" in said
    proxy.start()  # it left nothing behind
    proxy.stop()


def test_second_instance(proxy: Proxy):
    proxy.start()
    said = refusal(proxy)
    assert "in use" in said
    assert len(said.splitlines()) == 1  # one cause, one line, though every port is taken
    assert proxy.child.exit_code is None


def test_several_errors_at_once(proxy: Proxy):
    said = refusal(
        proxy,
        upstream={"bootstrap": ["broker"], "tls": {"ca": "/nowhere/ca.pem"}, "sasl": "kerberos"},
        topics=[{"match": "*", "seal": "maybe"}, {"match": "orders", "mode": "records"}],
        limits={"frame_bytes": 12, "drain_second": 3},
        skip=["orders/x/1-2"],
        broker_ports={"count": 0},
        colour="blue",
    )
    paths = [
        "upstream.bootstrap[0]",
        "upstream.tls.ca",
        "upstream.sasl",
        "topics[0].seal",
        "topics[1].mode",
        "limits.frame_bytes",
        "limits.drain_second",
        "skip[0]",
        "broker_ports.count",
        "colour",
    ]
    missing = [path for path in paths if not any(path in line for line in said.splitlines())]
    assert not missing, said
    assert len(said.splitlines()) >= len(paths)


def test_file_that_is_no_yaml(proxy: Proxy):
    path = proxy.folder / "broken.yaml"
    path.write_text("upstream: [")
    done = kveil("run", "-c", str(path))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "broken.yaml" in done.stderr


def test_no_configuration_at_all(tmp_path: Path):
    for arguments in (["run"], ["run", "-c", str(tmp_path / "nowhere.yaml")]):
        done = kveil(*arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        assert "upstream" in done.stderr or "nowhere.yaml" in done.stderr


def test_missing_key_file(proxy: Proxy):
    proxy.keys.unlink()
    said = refusal(proxy)
    assert str(proxy.keys) in said
    assert f"kveil keys init --keys {proxy.keys}" in said
    made = kveil("keys", "init", "--keys", str(proxy.keys))
    assert made.returncode == 0
    proxy.start()  # what it said helps
    assert proxy.stop() == 0


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_key_file_that_others_can_read(proxy: Proxy, mode: int):
    proxy.keys.chmod(mode)
    said = refusal(proxy)
    assert f"mode {mode:04o}" in said
    assert f"chmod 600 {proxy.keys}" in said


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": "kveil-keys", "version": 99}', b"\xff\x00"])
def test_damaged_key_file(proxy: Proxy, content: bytes):
    proxy.keys.write_bytes(content)
    assert str(proxy.keys) in refusal(proxy)


def test_keys_of_another_deployment(proxy: Proxy):
    said = refusal(proxy, realm="another")
    assert "another" in said
    assert "realm" in said


def test_rule_with_a_key_that_is_not_there(proxy: Proxy):
    said = refusal(proxy, topics=[{"match": "payments", "key": "payments"}])
    assert "payments" in said
    assert "kveil keys add" in said


@pytest.mark.parametrize("address", ["0.0.0.0", "[::]", "192.0.2.1"])
def test_listening_beyond_loopback(proxy: Proxy, address: str):
    said = refusal(proxy, listeners=[{"address": f"{address}:{proxy.port}"}])
    assert "listeners[0].address" in said
    assert "TLS and client authentication" in said


def test_flags_are_held_to_the_same(proxy: Proxy):
    with reserved_port_range(1) as port:
        flags = ("--listen", f"0.0.0.0:{port}", "--upstream", NOWHERE, "--keys", str(proxy.keys))
        for command in ("run", "producer", "consumer"):
            done = kveil(command, *flags)
            assert (done.returncode, "TLS and client authentication" in done.stderr) == (2, True)


def test_refusals_reach_whoever_starts_it_as_a_child(proxy: Proxy):
    """Not after a line that says it listens."""
    with socket.create_server(("127.0.0.1", proxy.port + 2)), pytest.raises(ChildFailedError, match="in use"):
        proxy.start()
    assert proxy.child.exit_code == 2
