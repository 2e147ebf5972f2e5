"""Batches of sealed records that must not open: one fault each, with the reason (FORMAT.md, sections 9 and 10)."""

from collections.abc import Iterator

from tests.vectors import reference as ref
from tests.vectors.faults import SECRET, Fault, flip
from tests.vectors.openings import EXTRA
from tests.vectors.record_reference import Plain, RecordSealer, header, headers, stored
from tests.vectors.reference import Batch, Sealer, lp, record, u, varint

R = RecordSealer
SEALER = R()
KID = SEALER.made_kid()
BLOCK = SEALER.made_block()
WRAP = SEALER.made_wrap()
PARTS = SEALER.parts()
SECTION = stored(PARTS)[61:]
ID = SEALER.hiding_id
ONE = [Plain(b"k", b"v")]


def section_of(section: bytes, count: int = 3, **fields: int) -> bytes:
    return Batch(section, count, **fields).encode()


def outer() -> Iterator[Fault]:
    """The batch around the records."""
    for magic in (0, 1, 3):
        yield Fault(f"magic {magic}", "batch malformed", R(outer={"magic": magic}))
    yield Fault("control bit", "batch malformed", R(outer={"attributes": 0x20}))
    for count in (0, -1, 2**20 + 1):
        yield Fault(f"count {count}", "batch malformed", R(outer={"count": count}))
    time = "timestamps are the broker's"
    yield Fault(
        "LogAppendTime where CreateTime is asked for", time, R(outer={"attributes": 8}), {"create_time_only": True}
    )
    reason = "batch does not decompress"
    for codec in (1, 2, 3, 4, 5, 6, 7):
        yield Fault(f"plain, codec {codec} claimed", reason, R(outer={"attributes": codec}))
    yield Fault("zstd, cut", reason, R(codec=lambda s: (4, ref.zstd_raw(s)[:-1])))
    yield Fault("zstd, noise behind the frame", reason, R(codec=lambda s: (4, ref.zstd_raw(s) + b"noise")))
    yield Fault("gzip, cut", reason, R(codec=lambda s: (1, ref.gzip_stored(s)[1][:-60])))
    yield Fault("lz4, cut", reason, R(codec=lambda s: (3, ref.lz4_stored(s)[1][:-60])))
    yield Fault("snappy, block cut", reason, R(codec=lambda s: (2, ref.snappy_framed(s)[1][:-60])))
    yield Fault("snappy, raw, claims 4 GiB", reason, R(codec=lambda s: (2, b"\xff\xff\xff\xff\x0f" + s)))


def records() -> Iterator[Fault]:
    """The records section."""
    bad = "records malformed"
    yield Fault("no bytes at all", bad, lambda: section_of(b""))
    yield Fault("cut in the last record", bad, lambda: section_of(SECTION[:-1]))
    yield Fault("cut between records", bad, lambda: section_of(SECTION, 4))
    yield Fault("one record more than counted", bad, lambda: section_of(SECTION, 2, last_offset_delta=2))
    yield Fault("a byte behind the last record", bad, lambda: section_of(SECTION + b"\x00"))
    yield Fault("nothing readable behind them, zstd", bad, R(codec=lambda s: (4, ref.zstd_raw(s + b"noise"))))
    yield Fault("offset twice", bad, lambda: stored(PARTS, [0, 0, 2]))
    yield Fault("offsets descending", bad, lambda: stored(PARTS, [1, 0, 2]))
    yield Fault("offset negative", bad, lambda: stored(PARTS, [-1, 1, 2]))
    yield Fault("offset beyond the last", bad, lambda: stored(PARTS, [0, 1, 3], last_offset_delta=2))
    for length in (-1, -2, 0, 5, 2**31 - 1):
        yield Fault(f"record of length {length}", bad, R(bent=1, wire=lambda r, n=length: varint(n) + r[2:]))
    yield Fault("record one byte longer than its length", bad, R(wire=lambda r: r + b"\x00"))
    yield Fault("record one byte shorter than its length", bad, R(wire=lambda r: r[:-1]))
    yield Fault("length of six bytes", bad, R(wire=lambda r: b"\x80\x80\x80\x80\x80\x01" + r[2:]))
    yield Fault("header without its value", bad, R(placed=lambda e: (e, b"\x02\x02k")))
    yield Fault("header count negative", bad, R(placed=lambda e: (e, b"\x01")))


def places() -> Iterator[Fault]:
    """Which record has which envelope, and where."""
    none, mixed, place = "not sealed", "some records are not sealed", "envelope out of place"
    plain = record(0, b"k", b"plain") + record(1, b"k", None) + record(2, None, b"\xc5K")
    yield Fault("plain records", none, lambda: section_of(plain))
    yield Fault("plain records, gzip", none, lambda: section_of(ref.gzip_stored(plain)[1], attributes=1))
    yield Fault("a delete of the broker's own", none, lambda: section_of(record(0, b"k", None), 1))
    yield Fault(
        "a delete with another header",
        none,
        lambda: section_of(record(0, b"k", None, headers=headers(header(b"k", b"v"))), 1),
    )
    yield Fault(
        "a delete, its header null",
        none,
        lambda: section_of(record(0, b"k", None, headers=headers(header(b"kveil", None))), 1),
    )
    for at in range(3):
        yield Fault(f"one record, magic byte {at}", none, R(records=ONE, envelope=flip(at)))
    for at in range(3):
        yield Fault(f"record {at} has no envelope", mixed, R(bent=at, wire=lambda r, i=at: record(i, b"k", b"plain")))
        yield Fault(f"record {at} is a delete of the broker's own", mixed, R(bent=at, placed=lambda e: (None, b"\x00")))
        yield Fault(f"record {at}, magic", mixed, R(bent=at, envelope=flip(0)))
    both = lambda e: (e, headers(header(b"kveil", e)))  # noqa: E731
    yield Fault("value with the header of a tombstone beside it", place, R(placed=both))
    yield Fault("value with that header, empty", place, R(placed=lambda e: (e, headers(header(b"kveil", b"")))))
    yield Fault("tombstone with a value of the same", place, R(bent=1, placed=both))
    yield Fault("mode 3 in a value", place, R(mode=3))
    yield Fault("mode 2 in a header", place, R(bent=1, mode=2))
    yield Fault("a tombstone's envelope moved to the value", place, R(bent=1, placed=lambda e: (e, b"\x00")))
    yield Fault("a value's envelope moved to a header", place, R(placed=lambda e: (None, headers(header(b"kveil", e)))))
    yield Fault(
        "two headers of a tombstone", place, R(bent=1, placed=lambda e: (None, headers(*[header(b"kveil", e)] * 2)))
    )
    yield Fault(
        "mode 2 made a tombstone's", "tag", R(envelope=flip(4), placed=lambda e: (None, headers(header(b"kveil", e))))
    )
    yield Fault("mode 3 made a value's", "tag", R(bent=1, envelope=flip(4), placed=lambda e: (e, b"\x00")))
    other = "sealed in another mode"
    yield Fault("a batch of batch mode", other, Sealer())
    yield Fault("mode 1", other, R(mode=1))
    yield Fault("mode 1 in a header", other, R(bent=1, mode=1))


def envelope() -> Iterator[Fault]:
    """The envelope header and the extensions."""
    for version in (0, 2, 255):
        yield Fault(f"version {version}", "version", R(version=version))
    for mode in (0, 4, 255):
        yield Fault(f"mode {mode}", "mode", R(bent=2, mode=mode))
    for suite in (0, 2, 255):
        yield Fault(f"suite {suite}", "suite", R(suite=suite))
    size, length = len(SEALER.extensions_of(0)), len(SEALER.plaintext_of(0))
    for wrong in (0, size - 1, size + 1, 4097, 65535):
        yield Fault(f"extension length {wrong}", "length", R(extension_length=wrong))
    yield Fault("extensions above 4,096 bytes", "length", R(extensions=lambda b: b"\x05" + lp(bytes(4096)) + b))
    for wrong in (0, 17, length - 1, length + 1, 2**32 - 1):
        yield Fault(f"plaintext length {wrong}", "length", R(plaintext_length=wrong))
    yield Fault("plaintext length wrong in the last record", "length", R(bent=2, plaintext_length=length))
    for wrong in (17, length + 1):
        yield Fault(
            f"second value's plaintext length {wrong}", "length", R(records=ONE * 2, bent=1, plaintext_length=wrong)
        )
    for wrong in (3, 55, 56, 100):
        yield Fault(f"envelope of {wrong} bytes", "length", R(envelope=lambda e, n=wrong: e[:n]))
        yield Fault(f"tombstone's envelope of {wrong} bytes", "length", R(bent=1, envelope=lambda e, n=wrong: e[:n]))
    yield Fault("a byte after the envelope", "length", R(bent=2, envelope=lambda e: e + b"\x00"))
    yield Fault("no room for any headers", "length", R(records=[Plain(None, b"")], inner_headers=lambda h: b""))
    for wrong in (2**20, 2**32 - 1):
        yield Fault(f"index {wrong}", "index out of range", R(index=wrong))
    yield Fault("no key block", "no key block", R(extensions=lambda b: EXTRA))
    yield Fault("two key blocks", "extensions out of order", R(extensions=lambda b: b + b))
    for kind in (0x80, 0x82, 0x83, 0x84, 0x87, 0xFF):
        pair = lambda b, k=kind: b"".join(sorted([bytes([k, 0, 0]), b]))  # noqa: E731
        yield Fault(f"critical extension {kind:#x}", "unknown critical extension", R(hiding=None, extensions=pair))
    bad = "extensions malformed"
    yield Fault("id of the key-hiding key of 15 bytes", bad, R(hiding_id=bytes(15)))
    yield Fault("id of the key-hiding key of 17 bytes", bad, R(hiding_id=bytes(17)))
    yield Fault("origin partition of 3 bytes", bad, R(extensions=lambda b: b + b"\x86\x00\x03\x00\x00\x03"))
    yield Fault("origin partition of 5 bytes", bad, R(extensions=lambda b: b + b"\x86\x00\x05" + u(3, 5)))
    yield Fault("a byte too many", bad, R(extensions=lambda b: b + b"\x90"))
    yield Fault(
        "key block of a tombstone malformed", "key block malformed", R(bent=1, extensions=lambda b: b"\x81\x00\x01\x01")
    )
    yield Fault("provider 9", "unknown provider", R(provider=9))
    yield Fault("mechanism 3", "mechanism not allowed", R(mechanism=3))


def keys() -> Iterator[Fault]:
    """Keys that are not the records', and records that are not where they were written."""
    direct, kid, tag = {"secret": SECRET}, "kid does not match the key", "tag"
    yield Fault("another topic", "wrap tag", R(), {"topic": "orders2"})
    yield Fault("another realm", "wrap tag", R(), {"realm": "demo2"})
    yield Fault("another key-encryption key", "wrap tag", R(), {"kek": bytes(32).hex()})
    yield Fault("another topic, key known", kid, R(), direct | {"topic": "orders2"})
    yield Fault("another epoch key", kid, R(), {"secret": bytes(32).hex()})
    yield Fault("epoch key of 31 bytes", "key length", R(), {"secret": SECRET[:62]})
    yield Fault("wrap of 71 bytes", "wrap length", R(wrapped=WRAP[:-1]))
    yield Fault(
        "kid changed on the way, key known",
        "sealed under another key",
        R(envelope=flip(23)),
        direct | {"kid": KID.hex()},
    )
    yield Fault("another partition", tag, R(), {"partition": 2})
    yield Fault("another partition, any wanted, none named", tag, R(), {"partition": 2, "any_partition": True})
    origin = "origin partition differs"
    yield Fault("another origin partition", origin, R(origin=4))
    yield Fault("read at another partition", origin, R(origin=3), {"partition": 2})
    yield Fault(
        "origin partition of one record alone", origin, R(bent=2, extensions=lambda b: b + b"\x86\x00\x04" + u(2, 4))
    )
    yield Fault(
        "origin partition of one value, not of the one before",
        origin,
        R(records=ONE * 2, origin=3, bent=1, extensions=lambda b: b[:-1] + b"\x04"),
    )
    yield Fault("origin partition a lie, any wanted", tag, R(origin=4), {"any_partition": True})
    yield Fault(
        "origin partition changed, any wanted",
        tag,
        R(origin=3, envelope=flip(56 + 3 + len(BLOCK) + 19 + 6)),
        {"any_partition": True},
    )
    hiding = "another key-hiding key"
    yield Fault("no key-hiding key", hiding, R(), {"hiding_key": None})
    yield Fault("key-hiding key of another id", hiding, R(hiding_id=bytes(16)))
    yield Fault("id of the key-hiding key changed on the way", hiding, R(envelope=flip(56 + 3 + len(BLOCK) + 3)))
    wire = "key differs from the one inside"
    yield Fault(
        "another key-hiding key under the same id", wire, R(), {"hiding_key": {"id": ID.hex(), "secret": "00" * 32}}
    )


def sealed_part() -> Iterator[Fault]:
    """Wire key, index, order of bytes, ciphertext and tag."""
    tag = "tag"
    yield Fault("salt changed", tag, R(bent=1, envelope=flip(24)))
    yield Fault("index changed", tag, R(envelope=flip(51)))
    for at in (0, 5, -17, -1):
        yield Fault(f"ciphertext and tag, byte {at}", tag, R(bent=2, ciphertext=flip(at)))
    yield Fault("tombstone's tag", tag, R(bent=1, ciphertext=flip(-1)))
    yield Fault("tag all zero", tag, R(ciphertext=lambda c: c[:-16] + bytes(16)))
    yield Fault("ciphertext changed, zstd", tag, R(ciphertext=flip(3), codec=lambda s: (4, ref.zstd_raw(s))))
    yield Fault("extension changed on the way", tag, R(extensions=lambda b: EXTRA + b, envelope=flip(56 + 3)))
    yield Fault("wire key changed", tag, R(wire_key=lambda k: bytes(32)))
    yield Fault("wire key of 31 bytes", tag, R(wire_key=lambda k: k[:-1]))
    yield Fault("wire key taken away", tag, R(wire_key=lambda k: None))
    yield Fault("wire key emptied", tag, R(wire_key=lambda k: b""))
    yield Fault("wire key given to a record without one", tag, R(records=[Plain(None, b"v")], wire_key=lambda k: b""))
    yield Fault("shown key changed", tag, R(hiding=None, wire_key=lambda k: b"key-3"))
    yield Fault("another record's wire key", tag, R(wire_key=lambda k: R().hidden(1)))


def plaintext() -> Iterator[Fault]:
    """What only the writer can get wrong."""
    for flag in (1, 2, 0x80):
        yield Fault(f"flags {flag:#x}", "unknown flag", R(flags=flag))
    yield Fault("a tombstone's flags", "unknown flag", R(bent=1, flags=1))
    yield Fault("pad not zero, first byte", "pad", R(pad=b"\x01" + bytes(7)))
    yield Fault("pad not zero, last byte", "pad", R(pad=bytes(7) + b"\x80"))
    yield Fault("pad longer than the plaintext", "pad", R(pad_length=2**32 - 1))
    yield Fault("pad length reaches into the value", "pad", R(pad_length=2))
    yield Fault("a tombstone's pad not zero", "pad", R(bent=1, pad=b"\x01"))
    inner, wire = "inner record malformed", "key differs from the one inside"
    yield Fault("pad reaches into the headers", inner, R(records=[Plain(b"k", b"")], pad_length=1))
    yield Fault("another key inside", wire, R(inner_key=lambda k: b"key-2"))
    yield Fault("key length one less", wire, R(key_length=4))
    yield Fault("key length beyond the plaintext", wire, R(key_length=2**31 - 1))
    yield Fault("null key inside", wire, R(key_length=-1))
    yield Fault("key inside, null on the wire", wire, R(records=[Plain(None, b"v")], key_length=0))
    for length in (-2, -(2**31)):
        yield Fault(f"key length {length}", inner, R(key_length=length))
        yield Fault(f"key length {length}, null on the wire", inner, R(records=[Plain(None, b"v")], key_length=length))
    yield Fault("a key inside though it is shown", inner, R(hiding=None, key_length=0))
    yield Fault("headers cut", inner, R(records=ONE, inner_headers=lambda h: b"\x02\x0a"))
    yield Fault("header count negative", inner, R(inner_headers=lambda h: b"\x01"))
    yield Fault("header name null", inner, R(inner_headers=lambda h: b"\x02\x01\x01"))
    yield Fault("header value longer than the plaintext", inner, R(inner_headers=lambda h: b"\x02\x02k" + varint(9000)))
    yield Fault("a tombstone with a value inside", inner, R(bent=1, value=lambda v: b"x"))
    far = R(client=Batch(b"", 2, base_timestamp=-(2**62)), records=[Plain(b"k", b"v"), Plain(b"k", b"v", delta=2**63)])
    yield Fault("timestamps too far apart", inner, lambda: timeless(far))


def timeless(sealer: RecordSealer) -> bytes:
    """Sealed with timestamps that a batch can't have on the wire."""
    section = b"".join(sealer.wire_record(i, i, sealer.timestamp(i)) for i in range(len(sealer.records)))
    return Batch(section, len(sealer.records)).encode()


GROUPS = (outer, records, places, envelope, keys, sealed_part, plaintext)
CASES = [
    Fault(f"{group.__name__}: {case.name}", case.reason, case.made, case.reader) for group in GROUPS for case in group()
]
