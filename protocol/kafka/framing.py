"""Cutting a stream of bytes into Kafka's frames: a signed 32-bit size, then so many bytes.

The buffer is made for `asyncio.BufferedProtocol`: sockets write into it, frames are views of it, and nothing is
copied on the way but the piece of a frame that the buffer's end cut off.
"""

from collections import OrderedDict
from collections.abc import Sequence

from kveil.protocol.kafka.errors import FrameError
from kveil.protocol.kafka.primitives import Buffer

SIZE_LENGTH = 4
INITIAL_CAPACITY = 16 * 1024
"""Room for a small request many times over. It is given back whenever it is empty: idle connections outnumber busy
ones, and to have it again takes less than a microsecond."""
KEPT_BYTES = 32 * 1024 * 1024
"""What empty buffers may hold: a dozen connections that carry full batches have theirs at hand."""
_LEAST_ROOM = 4 * 1024
"""Below this much free space the started frame is moved to the front: a read into less isn't worth its call."""
_NEXT_ROOM = 64 * 1024
"""What a buffer that grows for a frame has beyond it: for what comes with the frame's end in one read."""
_KEPT_CAPACITY = 8 * 1024 * 1024
"""A buffer that grew further for one large frame is given back when it is empty."""
_NONE = memoryview(b"")


class KeptBuffers:
    """The frame buffers that are empty and keep their memory for the next frame, the one used last at the end.

    Growing a buffer anew for each large frame would copy the frame; keeping every buffer that grew once would take
    memory without a bound.
    """

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._buffers: OrderedDict[FrameBuffer, int] = OrderedDict()

    def keep(self, buffer: "FrameBuffer", capacity: int) -> None:
        """Take note of a buffer that is empty. Others may have to give their memory back."""
        self._buffers[buffer] = capacity
        self._bytes += capacity
        while self._bytes > self._most_bytes:
            other, freed = self._buffers.popitem(last=False)
            self._bytes -= freed
            other.give_back()

    def forget(self, buffer: "FrameBuffer") -> None:
        """Take note of a buffer that is used again, or gone."""
        self._bytes -= self._buffers.pop(buffer, 0)


class FrameBuffer:
    """The bytes received on one side of a connection that have not been taken as frames yet."""

    def __init__(self, limit_bytes: int, kept: KeptBuffers) -> None:
        self.limit_bytes = limit_bytes
        """The longest frame. It may be changed between frames: less before a login than after."""
        self._kept = kept
        self._data = _NONE
        self._start = 0
        self._end = 0
        self.needed = SIZE_LENGTH
        """The length of the frame that has begun, its size included."""

    def free_space(self) -> memoryview:
        """Return where the next received bytes go. Frames taken before are overwritten from here on."""
        pending = self._end - self._start
        capacity = len(self._data)
        if pending == 0:
            if capacity == 0:
                self._data = memoryview(bytearray(INITIAL_CAPACITY))
            elif capacity > INITIAL_CAPACITY:
                self._kept.forget(self)
            return self._data
        if capacity - self._start < self.needed or capacity - self._end < _LEAST_ROOM:
            old = self._data
            if self._start == 0 and pending <= capacity // 2:
                return old[self._end :]
            # Growing with what has arrived, not with what was announced: an announcement costs its sender nothing.
            if self.needed + _LEAST_ROOM > capacity and pending > capacity // 2:
                self._data = memoryview(bytearray(min(2 * capacity, self.needed + _NEXT_ROOM)))
            self._data[:pending] = old[self._start : self._end]
            self._start, self._end = 0, pending
        return self._data[self._end :]

    def give_back(self) -> None:
        """Let go of the memory. What was received and not taken is lost; frames that were taken stay."""
        self._kept.forget(self)
        self._data = _NONE
        self._start = self._end = 0

    def received(self, count: int) -> None:
        """Take note that `count` bytes were written to the free space."""
        self._end += count

    def next_frame(self) -> memoryview | None:
        """Return the next whole frame without its size, or None. Valid until `free_space` is called.

        :raises FrameError: the size is negative or over the limit.
        """
        start = self._start
        available = self._end - start
        if available < SIZE_LENGTH:
            return None
        size = int.from_bytes(self._data[start : start + SIZE_LENGTH], "big", signed=True)
        if not 0 <= size <= self.limit_bytes:
            raise FrameError(_describe_size(size, self.limit_bytes))
        self.needed = SIZE_LENGTH + size
        if available < self.needed:
            return None
        frame = self._data[start + SIZE_LENGTH : start + self.needed]
        self._start = start + self.needed
        self.needed = SIZE_LENGTH
        if self._start == self._end:
            self._emptied()
        return frame

    def _emptied(self) -> None:
        self._start = self._end = 0
        capacity = len(self._data)
        if INITIAL_CAPACITY < capacity <= _KEPT_CAPACITY:
            self._kept.keep(self, capacity)
        else:
            self._data = _NONE


def write_frame(pieces: Sequence[Buffer]) -> list[Buffer]:
    """Return the pieces with the frame's size in front."""
    return [sum(map(len, pieces)).to_bytes(SIZE_LENGTH, "big"), *pieces]


def _describe_size(size: int, limit: int) -> str:
    head = (size & 0xFFFFFFFF).to_bytes(4, "big")
    if head[:2] == b"\x16\x03":
        return (
            "this looks like TLS, and the listener is plaintext: set security.protocol to PLAINTEXT or SASL_PLAINTEXT"
        )
    if head in (b"GET ", b"POST", b"HEAD", b"PUT "):
        return "this looks like HTTP, not Kafka"
    if size < 0:
        return f"a frame of {size} bytes: not Kafka's protocol"
    return f"a frame of {size} bytes is over the limit of {limit} (limits.frame_bytes; before a login, Kafka's own)"
