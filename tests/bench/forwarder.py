"""A bare byte-forwarder in the proxy's process model: what a relay in Python costs that looks at nothing.

`python -m tests.bench.forwarder PORT UPSTREAM_PORT`, both on loopback. It rewrites nothing, so the broker must
advertise PORT.
"""

import asyncio
import signal
import sys
from typing import cast

import uvloop

READ_BYTES = 256 * 1024
WRITE_BUFFER_BYTES = 1024 * 1024


class Side(asyncio.BufferedProtocol):
    """One socket. Whatever comes in goes out on the other one."""

    # One for all: what was read is copied before anything else is read.
    _buffer = memoryview(bytearray(READ_BYTES))

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Side | None = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._buffer[:nbytes])
        if self.other is None or self.other.transport is None:
            self.early.append(data)  # uvloop reads once more after it was told to pause
        else:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class ClientSide(Side):
    """The accepted one: it opens the other."""

    def __init__(self, upstream_port: int) -> None:
        super().__init__()
        self._upstream_port = upstream_port
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        assert self.transport is not None
        loop = asyncio.get_running_loop()
        try:
            _, self.other = await loop.create_connection(Side, "127.0.0.1", self._upstream_port)
        except OSError:
            self.transport.close()
            return
        self.other.other = self
        assert self.other.transport is not None
        if self.transport.is_closing():
            self.other.transport.close()
            return
        self.other.transport.writelines(self.early)
        self.transport.resume_reading()


async def forward(port: int, upstream_port: int) -> None:
    """Forward until SIGTERM."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    server = await loop.create_server(lambda: ClientSide(upstream_port), "127.0.0.1", port)
    print("listening", flush=True)
    await stopping.wait()
    server.close()


if __name__ == "__main__":
    uvloop.run(forward(int(sys.argv[1]), int(sys.argv[2])))
