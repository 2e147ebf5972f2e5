"""Batches of sealed records that open, and what each opens to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.vectors import reference as ref
from tests.vectors.openings import EXTRA, IDEMPOTENT
from tests.vectors.record_reference import TRACE, Part, Plain, RecordSealer, delivered, header, headers, stored
from tests.vectors.reference import Batch


@dataclass
class RecordOpening:
    name: str
    sealer: RecordSealer
    reader: dict[str, Any] = field(default_factory=dict)
    delivered: dict[str, Any] = field(default_factory=dict)
    parts: list[Part] | None = None
    offsets: list[int] | None = None

    def batch(self) -> bytes:
        sealer = self.sealer
        return stored(self.parts or sealer.parts(), self.offsets, sealer.codec, **sealer.outer)

    def opens_to(self) -> bytes:
        return delivered(self.parts or self.sealer.parts(), self.offsets, **self.delivered)


def numbered(count: int) -> list[Plain]:
    return [Plain(b"k%d" % i, b"v" * i, delta=i) for i in range(count)]


def as_codec(number: int, pack: Callable[[bytes], bytes]) -> Callable[[bytes], tuple[int, bytes]]:
    return lambda section: (number, pack(section))


FIRST = RecordSealer()
OTHER_SALT = RecordSealer(salt=bytes(range(0x30, 0x48)))
OTHER_KEY = RecordSealer(secret=bytes(range(1, 33)), salt=bytes(range(0x50, 0x68)))
FOREIGN = header(b"added", b"by the broker")


def foreign(envelope: bytes) -> tuple[bytes | None, bytes]:
    return envelope, headers(FOREIGN, header(b"and another", None))


CASES = [
    RecordOpening("a value, a tombstone, a value with headers", RecordSealer()),
    RecordOpening("one record", RecordSealer(records=[Plain(b"k", b"v")])),
    RecordOpening("one tombstone", RecordSealer(records=[Plain(b"k", None)])),
    RecordOpening("empty value and empty key", RecordSealer(records=[Plain(b"", b"")])),
    RecordOpening("null keys", RecordSealer(records=[Plain(None, b"v"), Plain(None, None)])),
    RecordOpening("tombstone with headers", RecordSealer(records=[Plain(b"k", None, headers=b"\x04" + TRACE)])),
    RecordOpening("seventy records, offsets of two bytes", RecordSealer(records=numbered(70))),
    RecordOpening(
        "lengths of three bytes", RecordSealer(records=[Plain(bytes(8192), bytes(9000)), Plain(bytes(64), None)])
    ),
    RecordOpening("keys shown", RecordSealer(hiding=None)),
    RecordOpening("null key shown", RecordSealer(hiding=None, records=[Plain(None, b"v"), Plain(None, None)])),
    RecordOpening("gzip", RecordSealer(codec=ref.gzip_stored)),
    RecordOpening("snappy, framed", RecordSealer(codec=ref.snappy_framed)),
    RecordOpening("snappy, raw", RecordSealer(codec=ref.snappy_raw)),
    RecordOpening("lz4", RecordSealer(codec=ref.lz4_stored)),
    RecordOpening("zstd", RecordSealer(codec=as_codec(4, ref.zstd_raw))),
    RecordOpening("idempotent", RecordSealer(client=Batch(b"", 3, **IDEMPOTENT))),
    RecordOpening("transactional", RecordSealer(client=Batch(b"", 3, attributes=0x10, **IDEMPOTENT))),
    RecordOpening(
        "base offset and leader epoch assigned",
        RecordSealer(outer={"base_offset": 123456789012, "leader_epoch": 17}),
        delivered={"base_offset": 123456789012, "leader_epoch": 17},
    ),
    RecordOpening(
        "LogAppendTime",
        RecordSealer(outer={"attributes": 8, "max_timestamp": 1_800_000_000_000}),
        delivered={"attributes": 8, "max_timestamp": 1_800_000_000_000},
    ),
    RecordOpening("timestamps rewritten by the broker", RecordSealer(outer={"base_timestamp": 5, "max_timestamp": 6})),
    RecordOpening("CreateTime asked for and found", RecordSealer(), {"create_time_only": True}),
    RecordOpening(
        "delete horizon set by the log cleaner", RecordSealer(outer={"attributes": 0x40, "base_timestamp": 1})
    ),
    RecordOpening("no timestamps", RecordSealer(client=Batch(b"", 1, base_timestamp=-1), records=[Plain(b"k", b"v")])),
    RecordOpening(
        "older records behind newer ones",
        RecordSealer(records=[Plain(b"a", b"1", delta=90), Plain(b"b", b"2", delta=-70_000), Plain(b"c", b"3")]),
    ),
    RecordOpening("holes left by the log cleaner", FIRST, parts=[(FIRST, 1), (FIRST, 2)], offsets=[1, 2]),
    RecordOpening(
        "last record removed by the log cleaner",
        RecordSealer(outer={"last_offset_delta": 9}),
        delivered={"last_offset_delta": 9},
    ),
    RecordOpening(
        "put together from three batches of two keys",
        FIRST,
        parts=[(FIRST, 2), (OTHER_SALT, 0), (OTHER_KEY, 1), (OTHER_KEY, 2), (FIRST, 0)],
        offsets=[0, 1, 2, 5, 8],
    ),
    RecordOpening("foreign headers are dropped", RecordSealer(placed=foreign)),
    RecordOpening(
        "foreign headers, one of them wanted",
        RecordSealer(placed=foreign, bent=0),
        {"extra_headers": [b"added".hex(), b"trace".hex()]},
        {"extra": FOREIGN},
    ),
    RecordOpening(
        "tombstone's header among foreign ones",
        RecordSealer(bent=1, placed=lambda e: (None, headers(FOREIGN, header(b"kveil", e)))),
    ),
    RecordOpening("pad of 64 bytes", RecordSealer(pad=bytes(64))),
    RecordOpening("tombstone with a pad", RecordSealer(pad=bytes(5), bent=1)),
    RecordOpening("an unknown extension that is not critical", RecordSealer(extensions=lambda made: EXTRA + made)),
    RecordOpening("origin partition", RecordSealer(origin=3)),
    RecordOpening("origin partition, any wanted", RecordSealer(origin=3), {"any_partition": True, "partition": 7}),
    RecordOpening("no origin partition, any wanted", RecordSealer(), {"any_partition": True}),
    RecordOpening("keys shown, origin partition", RecordSealer(hiding=None, origin=3)),
    RecordOpening("highest index", RecordSealer(index=2**20 - 1)),
    RecordOpening("realm beyond ASCII", RecordSealer(realm="Größe ☂")),
    RecordOpening(
        "provider 7, empty wrap, producer id",
        RecordSealer(provider=7, mechanism=0, wrapped=b"", producer_id=b"p-1"),
        {"secret": bytes(range(32)).hex(), "producer_id": b"p-1".hex()},
    ),
]
