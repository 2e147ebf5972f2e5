"""Messages between the parent and a worker, and sockets with them, over a Unix stream socket.

A message is its length as four bytes, one byte that says whether a socket comes with it, and JSON. The socket is sent
with the message's first byte (SCM_RIGHTS), so sockets arrive in the order of the messages that they belong to, and not
later than these. Nothing here ever blocks: what the other side doesn't take yet waits in a queue of bounded size.
"""

import json
import socket
import struct
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""A thousand topic names in JSON's longest way of writing take a tenth of it."""

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""What may wait to be sent: whoever leaves so much unread is stuck."""

_PREFIX = struct.Struct(">I?")
_READ_BYTES = 256 * 1024
_READS_AT_ONCE = 16
"""After so many the owner's other work has its turn."""
_SOCKETS_AT_ONCE = 64


class ChannelStuck(Exception):
    """The other side doesn't read."""


class Message(NamedTuple):
    """What was received."""

    kind: str
    values: Mapping[str, Any]
    sock: socket.socket | None
    """None too if it was lost on the way, because this process may open no more files."""


class Channel:
    """One end."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._waiting: deque[tuple[memoryview, socket.socket | None]] = deque()
        self._waiting_bytes = 0
        self._received = bytearray()
        self._sockets: deque[socket.socket | None] = deque()
        self.is_closed = False
        """Whether the other end is closed, and what it sent was received."""

    def fileno(self) -> int:
        """For selectors and event loops."""
        return self._sock.fileno()

    @property
    def is_waiting(self) -> bool:
        """Whether `flush` is to be called when the socket can be written to."""
        return bool(self._waiting)

    def send(self, kind: str, /, sock: socket.socket | None = None, **values: Any) -> None:
        """Send a message. The socket is closed here once it is sent.

        :raises ChannelStuck: too much waits already.
        """
        text = json.dumps({"kind": kind, **values}, separators=(",", ":")).encode()
        data = memoryview(_PREFIX.pack(len(text), sock is not None) + text)
        self._waiting.append((data, sock))
        self._waiting_bytes += len(data)
        self.flush()
        if self._waiting_bytes > MAX_WAITING_BYTES:
            raise ChannelStuck(f"{self._waiting_bytes} bytes are unread")

    def flush(self) -> None:
        """Send what waits, as far as it goes."""
        while self._waiting:
            data, sock = self._waiting[0]
            try:
                sent = self._sock.send(data) if sock is None else socket.send_fds(self._sock, [data], [sock.fileno()])
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # the other end is closed: receiving says so
                self._forget_waiting()
                return
            if sock is not None:
                sock.close()
            self._waiting_bytes -= sent
            if sent == len(data):
                self._waiting.popleft()
            else:
                self._waiting[0] = (data[sent:], None)

    def receive(self) -> list[Message]:
        """Return the messages that have come in, and set `is_closed` at the end."""
        messages: list[Message] = []
        for _ in range(_READS_AT_ONCE):
            try:
                data, descriptors, flags, _ = socket.recv_fds(self._sock, _READ_BYTES, _SOCKETS_AT_ONCE)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                data, descriptors, flags = b"", [], 0
            self._sockets += [_as_socket(number) for number in descriptors]
            if flags & socket.MSG_CTRUNC:
                self._sockets.append(None)
            if not data:
                self.is_closed = True
                break
            self._received += data
            messages += self._complete()
        return messages

    def close(self) -> None:
        """Close this end, and the sockets that aren't on their way yet."""
        self._forget_waiting()
        for sock in self._sockets:
            if sock is not None:
                sock.close()
        self._sock.close()

    def _complete(self) -> list[Message]:
        """Take the messages that are complete."""
        messages, at, received = list[Message](), 0, self._received
        while len(received) - at >= _PREFIX.size:
            length, has_socket = _PREFIX.unpack_from(received, at)
            if length > MAX_MESSAGE_BYTES:
                raise ValueError(f"a message of {length} bytes")
            end = at + _PREFIX.size + length
            if len(received) < end:
                break
            values = json.loads(received[at + _PREFIX.size : end])
            sock = self._sockets.popleft() if has_socket and self._sockets else None
            messages.append(Message(values.pop("kind"), values, sock))
            at = end
        del received[:at]
        return messages

    def _forget_waiting(self) -> None:
        for _, sock in self._waiting:
            if sock is not None:
                sock.close()
        self._waiting.clear()
        self._waiting_bytes = 0


def _as_socket(number: int) -> socket.socket:
    sock = socket.socket(fileno=number)
    with suppress(OSError):
        sock.set_inheritable(False)
    return sock
