"""Clients that misbehave, on purpose or because their network does."""

import random
import resource
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest

from tests.support.kafka import Cluster
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.raw_client import RawClient, batch
from tests.support.waiting import wait_until

LIMIT_BYTES = 1 << 20
MOST_CONNECTIONS = 260
SECONDS = 30.0


@pytest.fixture(scope="module")
def proxy(kafka: Cluster) -> Iterator[Proxy]:
    limits = {"frame_bytes": LIMIT_BYTES, "max_connections": MOST_CONNECTIONS}
    with kveil_proxy(kafka.bootstrap, config={"limits": limits}) as running:
        yield running


@pytest.fixture(autouse=True)
def others_are_not_disturbed(proxy: Proxy) -> Iterator[None]:
    """A neighbour is connected all the time, and nothing is left of the others afterwards."""
    process = psutil.Process(proxy.pid)
    with RawClient(proxy.bootstrap) as neighbour:
        neighbour.metadata()
        before = process.num_fds()
        yield
        assert neighbour.metadata().brokers
        wait_until(lambda: process.num_fds() == before)
    assert not proxy.events("connection_failed")


def closing_reasons(proxy: Proxy) -> str:
    return "\n".join(line["reason"] for line in proxy.events("connection_closed"))


def size(number: int) -> bytes:
    return number.to_bytes(4, "big", signed=True)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (size(LIMIT_BYTES + 1), "over the limit of 1048576 (limits.frame_bytes;"),
        (size(-1), "a frame of -1 bytes"),
        (b"\xff" * 64, "not Kafka's protocol"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "looks like HTTP"),
        (size(10) + b"\x7f\x00" + bytes(6) + b"\xff\xff", "a request of the unknown API 32512"),
        (size(3) + b"\x00\x03\x00", "a request of 3 bytes has no room for a header"),
        (size(200) + random.Random(5).randbytes(200), "a request of the unknown API 17788"),
        (size(30) + b"\x00\x12\x00\x03" + b"\xee" * 26, ""),  # the broker itself sends this one away
    ],
    ids=["over the limit", "negative", "ones", "http", "unknown api", "too short", "noise", "broken client id"],
)
def test_garbage_ends_its_connection_with_a_reason(proxy: Proxy, sent: bytes, reason: str):
    with RawClient(proxy.bootstrap) as client:
        client.socket.sendall(sent)
        assert client.is_closed_by_peer()
    wait_until(lambda: reason in closing_reasons(proxy))


def test_tls_hello_to_a_plaintext_port(proxy: Proxy):
    context = ssl.create_default_context()
    with socket.create_connection(("127.0.0.1", proxy.port), SECONDS) as plain, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(plain, server_hostname="localhost")
    wait_until(lambda: "set security.protocol to PLAINTEXT" in closing_reasons(proxy))


def test_request_over_the_limit(kafka: Cluster, proxy: Proxy, topic: str):
    """A true request this time: nothing of it is stored, and one just below the limit passes."""
    kafka.create_topic(topic, config={"max.message.bytes": 4 * LIMIT_BYTES})
    with RawClient(proxy.bootstrap) as client:
        assert client.produce({topic: {0: batch([bytes(LIMIT_BYTES - 1000)])}})[topic, 0] == (0, 0)
    with RawClient(proxy.bootstrap) as client:
        try:
            client.send_produce({topic: {0: batch([bytes(2 * LIMIT_BYTES)])}})
            assert client.is_closed_by_peer()
        except ConnectionError:
            pass  # it was closed before all was sent
    with RawClient(kafka.bootstrap) as direct:
        assert direct.fetch(topic).high_watermark == 1


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 12, -1])
def test_client_that_goes_in_the_middle_of_a_frame(kafka: Cluster, proxy: Proxy, topic: str, cut: int):
    kafka.create_topic(topic)
    with RawClient(proxy.bootstrap) as client:
        client.metadata(topic)
        whole = captured(client, lambda: client.send_produce({topic: {0: batch([b"cut off"])}}))
        client.socket.sendall(whole[:cut])
    with RawClient(kafka.bootstrap) as direct:
        assert direct.fetch(topic).high_watermark == 0


def captured(client: RawClient, send: Callable[[], None]) -> bytes:
    """The bytes that a call would send."""
    ours, theirs = socket.socketpair()
    kept, client.socket = client.socket, ours
    try:
        send()
        return theirs.recv(1 << 20)
    finally:
        client.socket = kept
        ours.close()
        theirs.close()


def test_client_that_stays_in_the_middle_of_a_frame(kafka: Cluster, proxy: Proxy, topic: str):
    """It holds up nobody but itself, and goes on where it stopped."""
    kafka.create_topic(topic)
    with RawClient(proxy.bootstrap) as slow, RawClient(proxy.bootstrap) as other:
        whole = captured(slow, lambda: slow.send_produce({topic: {0: batch([b"slow"])}}))
        for at in range(0, len(whole), 16):
            slow.socket.sendall(whole[at : at + 16])
            assert other.metadata().brokers
        assert len(slow.receive_frame()) > 4
        assert other.fetch(topic).values == [(0, b"slow")]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_half_open_client_is_asked_whether_it_is_there(proxy: Proxy):
    """A host that lost its power says no goodbye: the kernel's keepalive finds out, on both sides of the proxy."""
    with RawClient(proxy.bootstrap) as client:
        client.metadata()
        own = client.socket.getsockname()[1]
        timers = keepalive_timers(proxy.pid)
        assert (proxy.port, own) in timers
        upstream_port = int(proxy.config["upstream"]["bootstrap"][0].rpartition(":")[2])
        assert upstream_port in {far for _, far in timers}


def keepalive_timers(pid: int) -> set[tuple[int, int]]:
    """Local and remote port of the connections on which a keepalive timer runs (field 6 begins with 02)."""
    with open(f"/proc/{pid}/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    return {(int(row[1][-4:], 16), int(row[2][-4:], 16)) for row in rows if row[5].startswith("02")}


def test_client_that_closes_half(proxy: Proxy):
    with RawClient(proxy.bootstrap) as client:
        client.metadata()
        client.socket.shutdown(socket.SHUT_WR)
        assert client.is_closed_by_peer()


def test_connection_limit(proxy: Proxy):
    """The one too many is sent away, and there is room again as soon as another goes."""
    room = MOST_CONNECTIONS - 1  # the neighbour
    clients = [RawClient(proxy.bootstrap) for _ in range(room)]
    try:
        assert all(client.metadata().brokers for client in clients)
        with RawClient(proxy.bootstrap) as one_too_many:
            assert one_too_many.is_closed_by_peer()
        assert proxy.wait_for_event("too_many_connections")["max_connections"] == MOST_CONNECTIONS
        clients.pop().socket.close()
        wait_until(lambda: is_served(proxy))
    finally:
        for client in clients:
            client.socket.close()


@pytest.mark.parametrize("queue", ["full", "open"])
def test_broker_that_takes_nothing(queue: str):
    """It doesn't answer a connection, or takes one and reads nothing: a client that pours data in is held back."""
    limits = {"limits": {"connect_timeout_seconds": 3}}
    with (
        silent_broker(queue) as address,
        kveil_proxy(address, config=limits) as proxy,
        RawClient(proxy.bootstrap) as client,
    ):
        pouring = size(LIMIT_BYTES) + b"\x00\x03\x00\x0c" + bytes(LIMIT_BYTES - 4)
        assert poured(client, pouring) < 32  # MiB, most of it in the buffers of four sockets on loopback
        if queue == "full":
            client.socket.settimeout(SECONDS)
            assert client.is_closed_by_peer()
            assert "no answer in time" in proxy.wait_for_event("upstream_unreachable")["reason"]


def poured(client: RawClient, frame: bytes) -> int:
    """How often a frame could be sent until no more was taken."""
    client.socket.settimeout(1.0)
    for count in range(200):
        try:
            client.socket.sendall(frame)
        except TimeoutError:
            return count
    return 200


@contextmanager
def silent_broker(queue: str) -> Iterator[str]:
    """A port that nobody serves. Where the queue of new connections is full, one more hears nothing at all."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(4 if queue == "full" else 0):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield f"127.0.0.1:{address[1]}"


def test_few_open_files_to_begin_with(kafka: Cluster):
    """Many systems start a program with room for few files, and let it ask for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with kveil_proxy(kafka.bootstrap, start=False) as proxy, ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
        try:
            proxy.start()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        clients = [stack.enter_context(RawClient(proxy.bootstrap)) for _ in range(150)]
        assert all(client.metadata().brokers for client in clients)


def is_served(proxy: Proxy) -> bool:
    with RawClient(proxy.bootstrap) as client:
        try:
            return bool(client.metadata().brokers)
        except ConnectionError:
            return False
