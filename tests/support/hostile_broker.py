"""A broker that lies: it stands between the proxy and a real one, and tells what a test has it tell.

with hostile_broker(cluster.bootstrap) as broker, kveil_proxy(broker.address) as proxy:
    broker.records["orders"] = lambda told: told._replace(records=b"")          # Fetch, a partition at a time
    broker.control = lambda key, value: HIDDEN if ... else value                # Fetch of the control topic, by record
    broker.requests[ApiKey.PRODUCE] = lambda asked: changed_frame               # what reaches the real one
    broker.answers[ApiKey.METADATA] = lambda asked, answer: changed_frame       # what reaches the proxy
    broker.be_honest()

All that passes is cut into frames and matched by correlation id. `attacks` has what is told of batches.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from kveil.protocol.identity import CONTROL_TOPIC
from kveil.protocol.kafka.api_table import ApiKey
from kveil.protocol.kafka.headers import RequestHeader, read_request_header
from kveil.protocol.kafka.primitives import write_array_length, write_bytes_length
from kveil.protocol.kafka.record_batch import empty_batch
from kveil.protocol.kafka.splice import Edit, FrozenShape, Want, request_walker, response_walker, splice
from kveil.proxy.net.own_topic import plain_batch, records_of
from tests.support.records import at_offset
from tests.support.tampering import Relay

HIDDEN: Final = b"\0hidden"
"""What a record of the control topic becomes that is withheld. Its place stays empty, as the log cleaner leaves one."""

_ASKED = FrozenShape(
    {"topics": {"topic": Want.VALUE, "partitions": {"partition": Want.VALUE, "fetch_offset": Want.VALUE}}}
)
_TOLD = FrozenShape(
    {
        "responses": {
            "topic": Want.VALUE,
            "partitions": {
                "partition_index": Want.VALUE,
                "high_watermark": Want.SPAN,
                "aborted_transactions#": Want.SPAN,
                "aborted_transactions": {"@": Want.SPAN, "producer_id": Want.VALUE, "first_offset": Want.VALUE},
                "records": Want.DATA,
            },
        }
    }
)


class Asked(NamedTuple):
    """A request, as the proxy sent it."""

    header: RequestHeader
    frame: bytes


class Told(NamedTuple):
    """One partition of a Fetch answer."""

    partition: int
    asked: int
    """The offset that was asked for."""
    high_watermark: int
    records: bytes
    aborted: tuple[tuple[int, int], ...] = ()
    """Producer ids and first offsets of aborted transactions, for those who read committed records only."""


class HostileBroker(Relay):
    """What it tells, by topic or API. What isn't named passes as it is."""

    def __init__(self, upstream_port: int) -> None:
        super().__init__(upstream_port)
        self.records: dict[str, Callable[[Told], Told]] = {}
        self.requests: dict[int, Callable[[Asked], bytes]] = {}
        self.answers: dict[int, Callable[[Asked, bytes], bytes]] = {}
        self.control: Callable[[bytes | None, bytes | None], bytes | None] | None = None
        self._asked: dict[asyncio.StreamWriter, dict[int, Asked]] = {}

    def be_honest(self) -> None:
        """Tell the truth from now on."""
        self.records.clear()
        self.requests.clear()
        self.answers.clear()
        self.control = None

    async def _relay_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = self._asked.setdefault(writer, {})
        while frame := await _read_frame(reader):
            request = Asked(read_request_header(frame), frame)
            asked[request.header.correlation_id] = request
            change = self.requests.get(request.header.api_key)
            sent = frame if change is None else change(request)
            writer.write(len(sent).to_bytes(4, "big") + sent)
            await writer.drain()

    def _change_answer(self, frame: bytes, far_writer: asyncio.StreamWriter) -> bytes:
        asked = self._asked.get(far_writer, {}).pop(int.from_bytes(frame[:4], "big"), None)
        frame = super()._change_answer(frame, far_writer)
        if asked is None:
            return frame
        if asked.header.api_key == ApiKey.FETCH and (self.records or self.control):
            frame = self._change_fetched(asked, frame)
        change = self.answers.get(asked.header.api_key)
        return frame if change is None else change(asked, frame)

    def _change_fetched(self, asked: Asked, frame: bytes) -> bytes:
        key, version = asked.header.api_key, asked.header.api_version
        if version > 12:  # by topic id: nobody who is lied to here asks so
            return frame
        (topics,), _ = request_walker(key, version, _ASKED)(asked.frame)
        offsets = {(name, index): offset for name, partitions in topics for index, offset in partitions}
        walker = response_walker(key, version, _TOLD)
        (topics,), sections = walker(frame)
        edits = []
        for name, partitions in topics or ():
            change = self._control if name == CONTROL_TOPIC and self.control else self.records.get(name)
            for index, (mark_at, mark_end), (list_at, list_end), aborted, (start, at, end) in (
                partitions if change else ()
            ):
                mark = int.from_bytes(frame[mark_at:mark_end], "big", signed=True)
                named = tuple((producer, first) for _, producer, first in aborted or ())
                told = change(Told(index, offsets[name, index], mark, frame[at:end], named))
                edits.append(Edit(mark_at, mark_end, [told.high_watermark.to_bytes(8, "big", signed=True)]))
                if told.aborted != named:
                    end_of_list = aborted[-1][0][1] if aborted else list_end
                    edits.append(Edit(list_at, end_of_list, _aborted(told.aborted, compact=walker.flexible)))
                length = write_bytes_length(len(told.records), compact=walker.flexible)
                edits.append(Edit(start, end, [length, told.records]))
        return b"".join(splice(frame, edits, sections))

    def _control(self, told: Told) -> Told:
        assert self.control is not None
        batches = []
        for offset, key, value in records_of(told.records):
            other = self.control(key, value)
            if other is HIDDEN:
                batches.append(empty_batch(offset, offset))
            else:
                batches.append(at_offset(plain_batch([(key or b"", other)], 0), offset))
        return told._replace(records=b"".join(batches))


def _aborted(entries: tuple[tuple[int, int], ...], *, compact: bool) -> list[bytes]:
    tags = b"\0" if compact else b""
    rows = [producer.to_bytes(8, "big") + first.to_bytes(8, "big") + tags for producer, first in entries]
    return [write_array_length(len(rows), compact=compact), *rows]


async def _read_frame(reader: asyncio.StreamReader) -> bytes | None:
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        return None


@contextmanager
def hostile_broker(upstream: str) -> Iterator[HostileBroker]:
    """Run one in a thread for the length of a `with` block. It is honest to begin with."""
    broker = HostileBroker(int(upstream.rpartition(":")[2]))
    broker.start()
    try:
        yield broker
    finally:
        broker.close()
