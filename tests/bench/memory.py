"""Resident memory under load, and with thousands of connections that do nothing. Idle memory is in `startup`."""

import resource
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.messages import encode_request
from tests.bench.cases import MB, MEMORY, RATE, Case
from tests.bench.cluster import BenchCluster
from tests.bench.results import Results
from tests.bench.rounds import job_of, run_clients, topic_for
from tests.bench.usage import resident_bytes
from tests.bench.ways import Way
from tests.support.scripted_broker import frame_of

LOOK_SECONDS = 0.02
SETTLE_SECONDS = 1.0
ANSWER_SECONDS = 30.0
OTHER_OPEN_FILES = 128
"""Listening ports, the event loop's own, pipes to children."""
ROOM = {"limits": {"max_connections": 6_000}}
"""For Kveil's configuration: its default is as many as the case opens."""
API_VERSIONS_VERSION = 3


@dataclass(slots=True)
class Watch:
    """The most memory that a process had, looked at often by a thread."""

    pid: int
    most: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look at it meanwhile."""
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _look(self) -> None:
        while True:
            self.most = max(self.most, resident_bytes(self.pid))
            if self._ended.wait(LOOK_SECONDS):
                return


def load_round(case: Case, ways: Sequence[Way], bench: BenchCluster, results: Results) -> None:
    """Each process between once: the most it has while as much as goes is produced and consumed at the same time."""
    for way in ways:
        if way.pid is None:
            continue
        watch = Watch(way.pid)
        with topic_for(case, way.name, bench) as topic, watch.running():
            job = job_of(case, way, topic)
            answers = run_clients([job | {"operation": operation} for operation in ("produce", "consume")])
        results.add(case.name, "most memory", MEMORY, way.name, watch.most / MB)
        # The consumer waits for the producer: what it took is what both took.
        rate = sum(answer["bytes"] for answer in answers) / MB / max(answer["seconds"] for answer in answers)
        results.add(case.name, "both ways", RATE, way.name, rate)


def connections_round(case: Case, ways: Sequence[Way], bench: BenchCluster, results: Results) -> None:
    """Each process between once: what it has before and while that many clients are connected, and for each of them."""
    count = connections_allowed(case.connections)
    for way in ways:
        if way.pid is None:
            continue
        before = resident_bytes(way.pid)
        with idle_connections(way.bootstrap, count):
            time.sleep(SETTLE_SECONDS)
            after = resident_bytes(way.pid)
        results.add(case.name, "connections", "opened", way.name, count)
        results.add(case.name, "with connections", MEMORY, way.name, after / MB)
        results.add(case.name, "each connection", "kB", way.name, (after - before) / count / 1000)


def connections_allowed(wanted: int) -> int:
    """Take the open files that so many connections need, and return how many there can be; says so if they are fewer.

    The process between needs two for each. It has the same limit, and takes them itself.
    """
    needed = 2 * wanted + OTHER_OPEN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed and soft != resource.RLIM_INFINITY:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    allowed = (soft - OTHER_OPEN_FILES) // 2
    print(f"the system gives {soft:,} open files: {allowed:,} connections, not {wanted:,}", file=sys.stderr)
    return allowed


@contextmanager
def idle_connections(bootstrap: str, count: int) -> Iterator[None]:
    """Open that many, ask each for ApiVersions, and leave them alone."""
    host, _, port = bootstrap.rpartition(":")
    names = {"client_software_name": "bench", "client_software_version": "1"}
    request = frame_of(encode_request(ApiKey.API_VERSIONS, API_VERSIONS_VERSION, 1, "idle", names))
    with ExitStack() as stack:
        for _ in range(count):
            connected = stack.enter_context(socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS))
            connected.sendall(request)
            size = int.from_bytes(_read(connected, 4), "big")
            _read(connected, size)
        yield


def _read(connected: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connected.recv(size - len(data))
        if not piece:
            raise ConnectionError("an idle connection was closed")
        data += piece
    return data
