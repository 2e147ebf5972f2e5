"""Children end with us, ports stay ours, certificates fit: the parts of the infrastructure that need no broker."""

import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.certificates import CertificateAuthority
from tests.support.children import children_left, own_children
from tests.support.ports import reserved_port_range, reserved_ports
from tests.support.processes import Child, ChildFailedError, run
from tests.support.storage import files_with, stored_bytes

SECONDS = 20.0
TALKER = "import sys\nfor line in sys.stdin: print('heard', line.strip(), flush=True)"
OWNER = """
import sys, threading
from tests.support.processes import Child
started = []
thread = threading.Thread(target=lambda: started.append(Child(["sleep", "600"])))
thread.start(); thread.join()  # the thread that asked is gone, the child stays
print(started[0].pid, flush=True)
sys.stdin.read()
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_run_gives_both_streams_and_the_exit_code():
    done = run(python("import sys; print(sys.stdin.read()); sys.exit('oh')"), stdin="hello")
    assert (done.returncode, done.stdout, done.stderr) == (1, "hello\n", "oh\n")


def test_run_ends_what_takes_too_long():
    before = own_children()
    with pytest.raises(subprocess.TimeoutExpired):
        run(["sleep", "600"], timeout=0.1)
    assert children_left(before) == []


def test_child_talks_line_by_line():
    with Child(python(TALKER)) as child:
        child.write_line("one")
        assert child.lines.wait_for("one", SECONDS) == "heard one"
        child.close_stdin()
        assert child.wait(SECONDS) == 0
        assert list(child.lines.read(SECONDS)) == ["heard one"]


def test_waiting_for_a_line_ends_with_the_child():
    with Child(python("print('only this')")) as child, pytest.raises(ChildFailedError, match="only this"):
        child.lines.wait_for("something else", SECONDS)


def test_waiting_for_a_line_ends_in_time():
    with Child(["sleep", "600"]) as child, pytest.raises(TimeoutError):
        child.lines.wait_for("anything", 0.05)


def test_stop_kills_what_will_not_end():
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    with Child(python(stubborn)) as child:
        child.lines.wait_for("up", SECONDS)
        assert child.stop(timeout=0.1) == -signal.SIGKILL


def test_log_is_copied(tmp_path: Path):
    log = tmp_path / "log"
    with Child(python("import sys; print('out', flush=True); print('err', file=sys.stderr)"), log_path=log) as child:
        child.wait(SECONDS)
    assert log.read_text() == "out\nerr\n"


@pytest.mark.skipif(sys.platform != "linux", reason="the tie to the parent is Linux's")
def test_children_die_with_a_killed_parent(pytestconfig: pytest.Config):
    environment = {**os.environ, "PYTHONPATH": str(pytestconfig.rootpath)}
    with Child(python(OWNER), environment=environment) as owner:
        grandchild = psutil.Process(int(next(owner.lines.read(SECONDS))))
        assert grandchild.is_running()
        owner.kill()
        gone, _ = psutil.wait_procs([grandchild], timeout=SECONDS)
    assert gone == [grandchild]


def test_a_left_child_is_seen():
    before = own_children()
    with Child(["sleep", "600"]) as child:
        left = children_left(before)
        assert [line.split()[0] for line in left] == [str(child.pid)]
    assert children_left(before) == []


def test_reserved_ports_serve_who_names_them_only():
    with reserved_ports(2) as ports:
        for _ in range(2):  # and again after a stop
            with socket.create_server(("127.0.0.1", ports[0])) as server:
                socket.create_connection(server.getsockname()).close()
        with socket.socket() as anyone, pytest.raises(OSError, match="in use"):
            anyone.bind(("127.0.0.1", ports[1]))


def test_port_range_is_in_a_row():
    with reserved_port_range(20) as first:
        for port in range(first, first + 20):
            socket.create_server(("127.0.0.1", port)).close()


def test_certificate_is_good_for_loopback_and_its_authority_only(tmp_path: Path):
    certificate = CertificateAuthority(tmp_path / "a").issue("broker")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate.chain, certificate.key)
    shake_hands(server, tmp_path / "a" / "ca.pem")
    other = CertificateAuthority(tmp_path / "b")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, other.path)


def shake_hands(server: ssl.SSLContext, roots: Path) -> None:
    """Both sides of a handshake in memory."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    far = server.wrap_bio(to_server, to_client, server_side=True)
    near = ssl.create_default_context(cafile=str(roots)).wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_storage_finds_bytes_in_all_but_indexes(tmp_path: Path):
    for name in ("orders-0", "orders-10", "orders-new-0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.log").write_bytes(name.encode())
        (tmp_path / name / "0.index").write_bytes(b"orders-0")
    assert stored_bytes([tmp_path], "orders") == b"orders-0orders-10"
    assert files_with([tmp_path], b"orders-0") == [tmp_path / "orders-0" / "0.log"]
