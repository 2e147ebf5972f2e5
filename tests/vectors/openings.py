"""Sealed batches that open. `delivered` is what the broker changed in the client's batch, seen through the
seal.
"""

from dataclasses import dataclass, field
from typing import Any

from tests.vectors import reference as ref
from tests.vectors.reference import Batch, Sealer, client_records


@dataclass
class Opening:
    name: str
    sealer: Sealer
    reader: dict[str, Any] = field(default_factory=dict)
    delivered: dict[str, Any] = field(default_factory=dict)


def batch_of(count: int, **fields: int) -> Batch:
    return Batch(client_records(count), count, **fields)


def compressed(codec: int) -> Batch:
    """A batch that the client compressed; what is in it is nobody's business."""
    return Batch(b"opaque to a proxy " * 4, 3, attributes=codec)


IDEMPOTENT = {"producer_id": 4711, "producer_epoch": 2, "base_sequence": 99}
ORIGIN = b"\x86\x00\x04\x00\x00\x00\x03"
EXTRA = b"\x05\x00\x03abc"  # not critical, unknown

CASES = [
    Opening("one record", Sealer(client=batch_of(1))),
    Opening("three records", Sealer()),
    Opening("sixteen records, outer zstd in two parts", Sealer(client=batch_of(16), codec=ref.zstd_two_part)),
    Opening("two hundred records, outer zstd", Sealer(client=batch_of(200), codec=ref.zstd_two_part)),
    *(Opening(f"client codec {n}", Sealer(client=compressed(n))) for n in (1, 2, 3, 4)),
    Opening("broker made it gzip", Sealer(codec=ref.gzip_stored)),
    Opening("broker made it snappy, framed", Sealer(codec=ref.snappy_framed)),
    Opening("broker made it snappy, raw", Sealer(codec=ref.snappy_raw)),
    Opening("broker made it lz4", Sealer(codec=ref.lz4_stored)),
    Opening("zstd, raw blocks of 100 bytes", Sealer(codec=lambda s: (4, ref.zstd_raw(s, 100)))),
    Opening(
        "zstd, a frame for each 100 bytes",
        Sealer(codec=lambda s: (4, b"".join(ref.zstd_raw(s[i : i + 100]) for i in range(0, len(s), 100)))),
    ),
    Opening(
        "zstd, single segment with its size",
        Sealer(codec=lambda s: (4, ref.zstd_raw(s, header=b"\xa0" + len(s).to_bytes(4, "little")))),
    ),
    Opening("nothing readable behind record 0's frame", Sealer(codec=lambda s: (4, ref.zstd_raw(s) + b"noise"))),
    Opening(
        "base offset and leader epoch assigned",
        Sealer(outer={"base_offset": 123456789012, "leader_epoch": 17}),
        delivered={"base_offset": 123456789012, "leader_epoch": 17},
    ),
    Opening(
        "LogAppendTime",
        Sealer(outer={"attributes": 0x08, "max_timestamp": 1_800_000_000_000}),
        delivered={"attributes": 0x08, "max_timestamp": 1_800_000_000_000},
    ),
    Opening(
        "client set the LogAppendTime bit, broker cleared it",
        Sealer(client=batch_of(3, attributes=0x08)),
        delivered={"attributes": 0},
    ),
    Opening(
        "timestamps rewritten by the broker",
        Sealer(outer={"base_timestamp": 5, "max_timestamp": 6}, timestamp_delta=-77),
    ),
    Opening("delete horizon set by the log cleaner", Sealer(outer={"attributes": 0x40, "base_timestamp": 1})),
    Opening("unused attribute bits set", Sealer(outer={"attributes": 0x7F00})),
    Opening("stubs removed by the log cleaner", Sealer(with_stubs=False, outer={"count": 1})),
    Opening("idempotent", Sealer(client=batch_of(3, **IDEMPOTENT))),
    Opening("transactional", Sealer(client=batch_of(3, attributes=0x10, **IDEMPOTENT))),
    Opening("no producer id, epoch and sequence 0", Sealer(client=batch_of(3, producer_epoch=0, base_sequence=0))),
    Opening("no timestamps", Sealer(client=batch_of(3, base_timestamp=-1, max_timestamp=-1))),
    Opening("pad of 64 bytes", Sealer(pad=bytes(64))),
    Opening("compressed by the proxy", Sealer(flags=1, section=ref.zstd_raw)),
    Opening("compressed by the proxy, padded", Sealer(flags=1, section=ref.zstd_raw, pad=bytes(5))),
    Opening("an unknown extension that is not critical", Sealer(extensions=lambda block: EXTRA + block)),
    Opening("origin partition", Sealer(extensions=lambda block: block + ORIGIN)),
    Opening(
        "origin partition, any wanted",
        Sealer(extensions=lambda block: block + ORIGIN),
        {"any_partition": True, "partition": 7},
    ),
    Opening("no origin partition, any wanted", Sealer(), {"any_partition": True}),
    Opening("highest partition", Sealer(partition=2**31 - 1)),
    Opening("realm beyond ASCII", Sealer(realm="Größe ☂")),
    Opening("provider 2", Sealer(provider=2, mechanism=2, wrapped=b"vault:v1:abc"), {"secret": bytes(range(32)).hex()}),
    Opening(
        "provider 7, empty wrap, producer id",
        Sealer(provider=7, mechanism=0, wrapped=b"", producer_id=b"p-1"),
        {"secret": bytes(range(32)).hex(), "producer_id": b"p-1".hex()},
    ),
]
