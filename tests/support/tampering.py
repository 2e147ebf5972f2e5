"""A hostile network between the proxy and a real broker: answers are changed on their way.

with tampering_relay(cluster.bootstrap) as relay, kveil_proxy(relay.address) as proxy:
    relay.replace(stored_batch, changed_batch)

The broker's address is replaced by the relay's in every answer, so that the proxy never gets past it. For one
broker on loopback: both addresses have the same length.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from crc32c import crc32c

from kveil.protocol.kafka.record_batch import CRC_FROM

LOOPBACK = b"127.0.0.1"
JOIN_SECONDS = 10.0


class Relay:
    """Where it listens, and what it changes."""

    def __init__(self, upstream_port: int) -> None:
        self.port = 0
        self._upstream_port = upstream_port
        self._changes: dict[bytes, bytes] = {}
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tampering-relay")

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()
        assert self._ready.wait(JOIN_SECONDS)

    def close(self) -> None:
        """Cut all connections and listen no more."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._listen())

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def replace(self, stored: bytes, changed: bytes) -> None:
        """Give `changed`, which must be as long, wherever the broker gives these bytes. Replaces earlier orders."""
        assert len(stored) == len(changed)
        self._changes = {stored: changed}

    def freeze(self, *, on: bool = True) -> None:
        """Pass no answer on: the broker is silent, and its connections stay."""
        self._loop.call_soon_threadsafe(self._flowing.clear if on else self._flowing.set)

    def _change_answer(self, frame: bytes, far_writer: asyncio.StreamWriter) -> bytes:
        frame = frame.replace(self._address_bytes(self._upstream_port), self._address_bytes(self.port))
        for stored, changed in self._changes.items():
            frame = frame.replace(stored, changed)
        return frame

    @staticmethod
    def _address_bytes(port: int) -> bytes:
        return LOOPBACK + port.to_bytes(4, "big")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        self._writers |= {writer, far_writer}
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                async with asyncio.TaskGroup() as group:
                    up = group.create_task(self._relay_requests(reader, far_writer))
                    down = group.create_task(self._relay_answers(far_reader, writer, far_writer))
                    up.add_done_callback(lambda _: down.cancel())
        except* (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers -= {writer, far_writer}
            for each in (writer, far_writer):
                each.close()
                with suppress(ConnectionError):
                    await each.wait_closed()

    async def _relay_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()

    async def _relay_answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, far_writer: asyncio.StreamWriter
    ) -> None:
        while True:
            size = await reader.readexactly(4)
            frame = await reader.readexactly(int.from_bytes(size, "big"))
            await self._flowing.wait()
            changed = self._change_answer(frame, far_writer)
            writer.write(len(changed).to_bytes(4, "big") + changed)
            await writer.drain()

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def tampering_relay(upstream: str) -> Iterator[Relay]:
    """Run a relay in a thread for the length of a `with` block."""
    relay = Relay(int(upstream.rpartition(":")[2]))
    relay.start()
    try:
        yield relay
    finally:
        relay.close()


def with_checksum(stored: bytes) -> bytes:
    """The batch with its checksum made right, as whoever changes a batch would do it."""
    return stored[: CRC_FROM - 4] + crc32c(stored[CRC_FROM:]).to_bytes(4, "big") + stored[CRC_FROM:]


def flip(stored: bytes, at: int, bits: int = 0x01) -> bytes:
    """The batch with some bits of one byte turned over, its checksum made right unless it is the checksum itself."""
    changed = bytearray(stored)
    changed[at] ^= bits
    return bytes(changed) if at < CRC_FROM else with_checksum(bytes(changed))
