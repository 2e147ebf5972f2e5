"""One side of a relayed connection: a socket, and the frames cut from what it receives."""

import asyncio
import socket
from typing import Protocol, cast

from kveil.protocol.kafka.framing import FrameBuffer, KeptBuffers
from kveil.protocol.kafka.primitives import Buffer
from kveil.proxy.budget import ORDINARY_BYTES, Share

WRITE_BUFFER_BYTES = 1024 * 1024
"""What may wait to be sent before the other side isn't read any more: a full batch, so that both sides keep busy."""

KEEPALIVE_SECONDS = 60
"""After so long without a byte the kernel asks whether the other end is still there: a half-open peer is found."""

LINGER_SECONDS = 30
"""How long a closed side may take to receive what was sent to it: as long as clients wait for an answer. A peer that
doesn't read would keep the memory of its connection for ever."""


class Owner(Protocol):
    """Who is told what happens on a leg."""

    def leg_connected(self, leg: "Leg") -> None:
        """The leg can be used."""

    def leg_received(self, leg: "Leg") -> None:
        """Bytes have come in, and there may be frames."""

    def leg_writable(self, leg: "Leg") -> None:
        """`is_clogged` has changed."""

    def leg_lost(self, leg: "Leg") -> None:
        """The leg is closed."""


class Leg(asyncio.BufferedProtocol):
    """A socket that reads into a frame buffer."""

    def __init__(self, owner: Owner, frame_bytes: int, kept: KeptBuffers, share: Share) -> None:
        self._owner = owner
        self._reading = True
        self._lingering: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport | None = None
        self.frames = FrameBuffer(frame_bytes, kept)
        self.is_clogged = False
        """Whether more waits to be sent than should."""
        self._share = share
        self._begun = 0
        """The size of the large frame that is being received."""
        self._taken = 0
        """Of those that were received and may not have left the proxy."""

    def next_frame(self) -> memoryview | None:
        """Return the next whole frame, None if there is none yet. It is valid until more is received.

        :raises FrameError: the size is negative or over the limit.
        """
        frame = self.frames.next_frame()
        if frame is None:
            if self.frames.needed > ORDINARY_BYTES and not self._begun:
                self._begun = self.frames.needed
                self._share.ask(self._begun)
        elif self._begun:
            self._taken += self._begun
            self._begun = 0
        return frame

    @property
    def waits_for_room(self) -> bool:
        """Whether a large frame has begun that there is no room for yet."""
        return self._begun > 0 and self._share.is_waiting

    def taken_have_left(self) -> None:
        """Give back what the frames that were taken held of the budget."""
        taken, self._taken = self._taken, 0
        if taken:
            self._share.give_back(taken)

    def write(self, pieces: list[Buffer]) -> None:
        """Send the pieces, one after the other."""
        if self.transport is not None and pieces and not self.transport.is_closing():
            self.transport.writelines(pieces)

    def read(self, *, on: bool) -> None:
        """Go on receiving, or stop."""
        if self.transport is None or self._reading is on or self.transport.is_closing():
            return
        self._reading = on
        if on:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def close(self) -> None:
        """Close after what was written is sent, or can't be in time."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
            self._lingering = asyncio.get_running_loop().call_later(LINGER_SECONDS, self.transport.abort)

    def abort(self) -> None:
        """Close now."""
        if self.transport is not None:
            self.transport.abort()

    # Called by the event loop ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        connected = transport.get_extra_info("socket")
        if connected is not None and connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
        self._owner.leg_connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the frame buffer knows better
        """Say where received bytes go."""
        return self.frames.free_space()

    def buffer_updated(self, nbytes: int) -> None:
        """Take note of received bytes."""
        self.frames.received(nbytes)
        self._owner.leg_received(self)

    def pause_writing(self) -> None:
        """More waits to be sent than should."""
        self.is_clogged = True
        self._owner.leg_writable(self)

    def resume_writing(self) -> None:
        """Most of it was sent."""
        self.is_clogged = False
        self._owner.leg_writable(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever the reason, it is gone
        """The socket is closed."""
        if self._lingering is not None:
            self._lingering.cancel()
        self.is_clogged = False
        self.frames.give_back()
        begun, self._begun = self._begun, 0
        if begun:
            self._share.give_back(begun)
        self._owner.leg_lost(self)
