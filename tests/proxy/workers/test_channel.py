"""The channel: messages arrive whole and in order, each with its socket, and nobody is blocked or fed without end."""

import json
import os
import resource
import selectors
import socket
import struct

import pytest

from kveil.proxy.workers import channel as module
from kveil.proxy.workers.channel import Channel, ChannelStuck


@pytest.fixture
def ends():
    near, far = (Channel(sock) for sock in socket.socketpair())
    yield near, far
    near.close()
    far.close()


@pytest.fixture
def carried():
    """Sockets to send, and their other ends, which stay."""
    pairs = []

    def make():
        pairs.append(socket.socketpair())
        return pairs[-1]

    yield make
    for pair in pairs:
        for sock in pair:
            sock.close()


def receive_all(sender, receiver, count):
    """The next messages, however many turns that takes."""
    found = []
    with selectors.DefaultSelector() as selector:
        selector.register(receiver, selectors.EVENT_READ)
        while len(found) < count:
            sender.flush()
            assert selector.select(5), f"{len(found)} of {count} messages came"
            found += receiver.receive()
    return found


def leads_to(sock, other):
    """Whether these are the ends of one pair."""
    with sock:
        sock.setblocking(True)
        other.sendall(b"!")
        return sock.recv(1) == b"!"


def test_there_and_back(ends):
    near, far = ends
    near.send("ready", realm="x")
    far.send("answer", number=1, answer={"a": [None, "\udc80 \u00e9"]})
    assert [tuple(message) for message in far.receive()] == [("ready", {"realm": "x"}, None)]
    ((_, values, _),) = near.receive()
    assert values == {"number": 1, "answer": {"a": [None, "\udc80 \u00e9"]}}
    assert near.receive() == []


def test_a_socket_comes_with_its_message(ends, carried):
    near, far = ends
    others = {}
    for number in range(9):
        if number % 3:
            others[number], mine = carried()
            near.send("take", sock=mine, number=number)
            assert mine.fileno() == -1  # it is the other side's now
        else:
            near.send("broker", number=number)
    messages = receive_all(near, far, 9)
    assert [message.values["number"] for message in messages] == list(range(9))
    assert [message.values["number"] for message in messages if message.sock] == [1, 2, 4, 5, 7, 8]
    assert all(leads_to(message.sock, others[message.values["number"]]) for message in messages if message.sock)


def test_nobody_is_blocked_by_a_side_that_does_not_read(ends, carried):
    """Ten thousand topic names and a socket behind them."""
    near, far = ends
    names = [[f"a-topic-with-a-long-name-{number}", f"{number:032x}"] for number in range(10_000)]
    others = {}
    for number in range(0, 20, 2):
        near.send("agree", number=number, names=names)
        others[number + 1], mine = carried()
        near.send("take", sock=mine, number=number + 1, more="x" * 300_000)  # which doesn't go out at once
    assert near.is_waiting
    messages = receive_all(near, far, 20)
    assert not near.is_waiting
    assert [message.values["number"] for message in messages] == list(range(20))
    assert all(message.values["names"] == names for message in messages[::2])
    assert all(leads_to(message.sock, others[message.values["number"]]) for message in messages[1::2])


def test_who_never_reads_is_stuck(ends, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 1_000_000)
    near, _ = ends
    near.send("drop", topics=["x" * 900_000])
    with pytest.raises(ChannelStuck, match="unread"):
        near.send("drop", topics=["x" * 900_000])


def test_bytes_that_come_one_by_one(carried):
    (read, writing), (raw, reading) = carried(), carried()
    source, channel = Channel(writing), Channel(reading)
    source.send("drop", topics=["a", "b"])
    source.send("reload")
    messages = []
    for byte in read.recv(1000):
        raw.sendall(bytes([byte]))
        messages += channel.receive()
    assert [(message.kind, message.values) for message in messages] == [
        ("drop", {"topics": ["a", "b"]}),
        ("reload", {}),
    ]


def test_what_was_said_before_the_end_is_heard(ends):
    near, far = ends
    near.send("report", cpu_seconds=1.5)
    near.close()
    assert [message.kind for message in far.receive()] == ["report"]
    assert far.is_closed
    far.send("drain")  # to nobody
    assert not far.is_waiting


def test_sockets_on_their_way_are_closed_with_the_channel(ends, carried):
    near, _ = ends
    while not near.is_waiting:
        near.send("drop", topics=["x" * 10_000])
    other, mine = carried()
    near.send("take", sock=mine)
    near.close()
    assert other.recv(1) == b""


def test_a_length_that_none_has(ends):
    _, far = ends
    raw = socket.socket(fileno=os.dup(ends[0].fileno()))
    with raw:
        raw.sendall(b"\xff" * 5)
    with pytest.raises(ValueError, match="4294967295 bytes"):
        far.receive()


def test_a_socket_that_is_lost_for_want_of_files(ends, carried):
    """Its message comes without, and those behind it with their own."""
    near, far = ends
    (_, lost), (other, kept) = carried(), carried()
    raw = socket.socket(fileno=os.dup(near.fileno()))
    data = channel_data("take", number=1)
    socket.send_fds(raw, [data[:5]], [lost.fileno()])  # its rest comes later, in one piece with the next
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = socket.socket()
    with spare:
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare.fileno(), hard))
        try:
            blockers = _fill()
            messages = far.receive()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for sock in blockers:
                sock.close()
    raw.sendall(data[5:])
    near.send("take", sock=kept, number=2)
    messages += far.receive()
    assert [(message.values["number"], message.sock is None) for message in messages] == [(1, True), (2, False)]
    assert leads_to(messages[1].sock, other)
    raw.close()
    lost.close()


def channel_data(kind, **values):
    """The bytes of a message that has a socket."""
    text = json.dumps({"kind": kind, **values}).encode()
    return struct.pack(">I?", len(text), True) + text


def _fill():
    """Every file that may still be opened."""
    found = []
    while True:
        try:
            found.append(socket.socket())
        except OSError:
            return found
