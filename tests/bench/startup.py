"""How fast the proxy is there, and what it holds while it does nothing."""

import socket
import subprocess
import sys
import time
from contextlib import suppress

from confluent_kafka import Producer

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.messages import encode_request
from tests.bench.cases import MB, MEMORY, Case
from tests.bench.results import Results
from tests.bench.usage import resident_bytes
from tests.bench.ways import KVEIL
from tests.support.proxy import kveil_proxy
from tests.support.scripted_broker import frame_of

METADATA_VERSION = 12
LOOK_SECONDS = 0.002
LIMIT_SECONDS = 30.0
SETTLE_SECONDS = 0.5

# A library of kio's imports hypothesis wherever it finds it, which takes 90 ms and some MB. Only tests need it, an
# ordinary installation has none: so here it can't be found.
AS_INSTALLED = "import sys; sys.modules['hypothesis'] = None; from kveil.proxy.cli import main; main()"
PROGRAM = (sys.executable, "-c", AS_INSTALLED)


def start_round(case: Case, upstream: str, results: Results) -> None:
    """Start a proxy once, and measure it."""
    with kveil_proxy(upstream, start=False, config={"log": {"format": "json", "level": "info"}}) as proxy:
        proxy.start()  # writes the configuration
        proxy.stop()
        config = str(proxy.folder / "kveil.yaml")
        began = time.perf_counter()
        with subprocess.Popen([*PROGRAM, "run", "-c", config], stderr=subprocess.DEVNULL) as process:
            try:
                first_metadata(proxy.port)
                results.add(case.name, "first Metadata", "s", KVEIL, time.perf_counter() - began)
                time.sleep(SETTLE_SECONDS)
                results.add(case.name, "idle memory", MEMORY, KVEIL, resident_bytes(process.pid) / MB)
                Producer({"bootstrap.servers": proxy.bootstrap, "log_level": 0}).list_topics(timeout=LIMIT_SECONDS)
                time.sleep(SETTLE_SECONDS)
                results.add(case.name, "memory after a client", MEMORY, KVEIL, resident_bytes(process.pid) / MB)
            finally:
                process.terminate()


def first_metadata(port: int) -> None:
    """Ask for Metadata until it is answered."""
    request = frame_of(encode_request(ApiKey.METADATA, METADATA_VERSION, 1, "bench", {"topics": []}))
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=LIMIT_SECONDS) as sock:
            sock.sendall(request)
            if len(sock.recv(4)) == 4:
                return
        time.sleep(LOOK_SECONDS)
    raise TimeoutError("no Metadata answer")
