"""The status page in a real Chromium, which has to be installed: Debian's is the package chromium."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.admin_port import AdminPort, admin_port
from tests.support.clients import Record, librdkafka_produce
from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.waiting import wait_until

CHROMIUM = shutil.which("chromium")
LOOK_MS = 8_000
PNG = b"\x89PNG"

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (on Debian: apt install chromium)"),
]


@pytest.fixture
def running(kafka: Cluster) -> Iterator[tuple[Proxy, AdminPort]]:
    with admin_port() as admin, kveil_proxy(kafka.bootstrap, config=admin.config) as proxy:
        yield proxy, admin


def browse(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Look for some seconds. Its own messages, and those of the page's script, go to stderr."""
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr")
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [CHROMIUM or "", *quiet, profile, f"--timeout={LOOK_MS}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


def test_what_happens_is_seen_without_a_reload(running, tmp_path: Path, topic: str):
    proxy, admin = running
    assert topic not in admin.get("/").text
    seen: list[subprocess.CompletedProcess[str]] = []
    looking = threading.Thread(target=lambda: seen.append(browse(tmp_path, "--dump-dom", admin.url)))
    looking.start()
    try:
        wait_until(lambda: viewers(proxy, admin) == 1)
        librdkafka_produce(proxy.bootstrap, topic, [Record(value=b"v")] * 3)
    finally:
        looking.join()
    (found,) = seen
    assert topic in found.stdout
    assert "Content Security Policy" not in found.stderr
    assert "Uncaught" not in found.stderr


def viewers(proxy: Proxy, admin: AdminPort) -> int:
    """How many have the page's events open: connections of a browser that stay."""
    import psutil

    port = int(admin.url.rpartition(":")[2])
    found = psutil.Process(proxy.pid).net_connections("tcp")
    return sum(one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in found)


@pytest.mark.parametrize("scheme", ["0", "1"], ids=["dark", "light"])
def test_a_picture(running, tmp_path: Path, scheme: str):
    _, admin = running
    picture = tmp_path / "page.png"
    browse(tmp_path, f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={picture}", admin.url)
    assert picture.read_bytes().startswith(PNG)
    assert picture.stat().st_size > 20_000  # more than an empty page
