"""Sealed batches that must not open: one fault each, with the reason (FORMAT.md, section 9)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.vectors import reference as ref
from tests.vectors.openings import IDEMPOTENT, batch_of
from tests.vectors.reference import Sealer, lp, u, varint


@dataclass
class Fault:
    name: str
    reason: str
    made: Sealer | Callable[[], bytes]
    reader: dict[str, Any] = field(default_factory=dict)

    def batch(self) -> bytes:
        return self.made.seal() if isinstance(self.made, Sealer) else self.made()


def flip(at: int, bit: int = 1) -> Callable[[bytes], bytes]:
    """Changes one bit of the byte at `at`, which may count from the end."""

    def flipped(data: bytes) -> bytes:
        out = bytearray(data)
        out[at] ^= bit
        return bytes(out)

    return flipped


def as_zstd(change: Callable[[bytes], bytes]) -> Callable[[bytes], tuple[int, bytes]]:
    return lambda section: (4, change(ref.zstd_raw(section)))


def resized(record: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The record with its body changed and its length made right again."""
    body = change(record[2:])  # lengths here take two bytes
    return varint(len(body)) + body


SECRET = bytes(range(32)).hex()
KID = Sealer().made_kid()
BLOCK = Sealer().made_block()
WRAP = Sealer().made_wrap()
LEAST = 6 + 16  # of record 0's body: attributes, deltas, key length, key, value length (2)


def outer() -> Iterator[Fault]:
    """The batch around the envelope."""
    for magic in (0, 1, 3):
        yield Fault(f"magic {magic}", "batch malformed", Sealer(outer={"magic": magic}))
    yield Fault("control bit", "batch malformed", Sealer(outer={"attributes": 0x20}))
    yield Fault("count 0", "batch malformed", Sealer(outer={"count": 0}))
    yield Fault("count negative", "batch malformed", Sealer(outer={"count": -1}))
    differs = "count differs from the batch"
    yield Fault("more records than sealed", differs, Sealer(outer={"count": 4}))
    yield Fault("last offset one more", differs, Sealer(outer={"last_offset_delta": 3}))
    yield Fault("last offset one less", differs, Sealer(outer={"last_offset_delta": 1}))
    fields = "producer fields differ from the batch"
    sealed = batch_of(3, **IDEMPOTENT)
    yield Fault("outer producer id", fields, Sealer(client=sealed, outer={"producer_id": 4712}))
    yield Fault("outer producer epoch", fields, Sealer(client=sealed, outer={"producer_epoch": 3}))
    yield Fault("outer base sequence", fields, Sealer(client=sealed, outer={"base_sequence": 100}))
    yield Fault("outer producer id taken away", fields, Sealer(client=sealed, outer={"producer_id": -1}))
    yield Fault("transactional bit added", fields, Sealer(client=sealed, outer={"attributes": 0x10}))
    transactional = batch_of(3, attributes=0x10, **IDEMPOTENT)
    yield Fault("transactional bit removed", fields, Sealer(client=transactional, outer={"attributes": 0}))


def codecs() -> Iterator[Fault]:
    """The codec that the broker gave the batch."""
    reason = "batch does not decompress"
    for codec in (1, 2, 3, 4, 5, 6, 7):
        yield Fault(f"plain, codec {codec} claimed", reason, Sealer(outer={"attributes": codec}))
    for codec in (5, 6, 7):
        yield Fault(f"zstd data, codec {codec} claimed", reason, Sealer(codec=lambda s, c=codec: (c, ref.zstd_raw(s))))
    yield Fault("zstd, cut in a block", reason, Sealer(codec=as_zstd(lambda f: f[:-20])))
    yield Fault("zstd, cut in the frame header", reason, Sealer(codec=as_zstd(lambda f: f[:5])))
    yield Fault("zstd, no last block", reason, Sealer(codec=as_zstd(flip(6))))
    yield Fault("zstd, block of the reserved type", reason, Sealer(codec=as_zstd(flip(6, 6))))
    yield Fault("zstd, block longer than the frame", reason, Sealer(codec=as_zstd(flip(8, 1))))
    yield Fault("zstd, block above 128 KiB", reason, Sealer(codec=as_zstd(flip(8, 0x80))))
    yield Fault("zstd, reserved bit in the frame header", reason, Sealer(codec=as_zstd(flip(4, 8))))
    yield Fault("zstd, a dictionary", reason, Sealer(codec=as_zstd(lambda f: f[:4] + b"\x01\x38\x07" + f[6:])))
    yield Fault("zstd, magic number", reason, Sealer(codec=as_zstd(flip(0))))
    yield Fault("gzip, cut", reason, Sealer(codec=lambda s: (1, ref.gzip_stored(s)[1][:-60])))
    yield Fault("gzip, magic number", reason, Sealer(codec=lambda s: (1, flip(0)(ref.gzip_stored(s)[1]))))
    yield Fault("lz4, cut", reason, Sealer(codec=lambda s: (3, ref.lz4_stored(s)[1][:-60])))
    yield Fault("lz4, magic number", reason, Sealer(codec=lambda s: (3, flip(0)(ref.lz4_stored(s)[1]))))
    yield Fault("lz4, frame header", reason, Sealer(codec=lambda s: (3, flip(5, 0x30)(ref.lz4_stored(s)[1]))))
    yield Fault("snappy, block cut", reason, Sealer(codec=lambda s: (2, ref.snappy_framed(s)[1][:-60])))
    yield Fault("snappy, block length 0", reason, Sealer(codec=lambda s: (2, ref.snappy_framed(b"")[1] + bytes(4))))
    yield Fault(
        "snappy, block length negative", reason, Sealer(codec=lambda s: (2, ref.snappy_framed(b"")[1] + u(-1, 4) + s))
    )
    yield Fault(
        "snappy, raw, claims 4 GiB",
        reason,
        Sealer(codec=lambda s: (2, b"\xff\xff\xff\xff\x0f" + ref.snappy_raw(s)[1][2:])),
    )
    yield Fault(
        "zstd, nothing in it", "record 0 malformed", Sealer(codec=lambda s: (4, ref.zstd_raw(b"") + b"\x01\x00\x00"))
    )


def record_0() -> Iterator[Fault]:
    """The record that carries the envelope, and batches that carry none."""
    bad, none = "record 0 malformed", "not sealed"
    yield Fault("no bytes at all", bad, Sealer(record_0=lambda r: b"", with_stubs=False))
    yield Fault("length cut", bad, Sealer(record_0=lambda r: b"\xff", with_stubs=False))
    yield Fault("length of six bytes", bad, Sealer(record_0=lambda r: b"\x80\x80\x80\x80\x80\x01" + r[2:]))
    yield Fault("length above 32 bits", bad, Sealer(record_0=lambda r: b"\x80\x80\x80\x80\x7f" + r[2:]))
    yield Fault("length one less", bad, Sealer(record_0=lambda r: varint(len(r) - 3) + r[2:]))
    yield Fault("length one more", bad, Sealer(record_0=lambda r: varint(len(r) - 1) + r[2:]))
    yield Fault("length negative", bad, Sealer(record_0=lambda r: varint(-200) + r[2:]))
    yield Fault("offset delta 1", bad, Sealer(offset_delta=1))
    yield Fault("offset delta -1", bad, Sealer(offset_delta=-1))
    yield Fault("key of 15 bytes", bad, Sealer(record_key=bytes(15)))
    yield Fault("key of 17 bytes", bad, Sealer(record_key=bytes(17)))
    yield Fault("null key", bad, Sealer(record_key=None))
    yield Fault("a header", bad, Sealer(headers=b"\x02" + varint(1) + b"k" + varint(1) + b"v"))
    yield Fault("a header of its own count", bad, Sealer(headers=b"\x02"))
    yield Fault("a byte after it", bad, Sealer(record_0=lambda r: resized(r, lambda body: body + b"\x00")))
    yield Fault("cut in the envelope header", "length", Sealer(record_0=lambda r: r[:40], with_stubs=False))
    yield Fault("cut in the ciphertext", bad, Sealer(record_0=lambda r: r[:-20], with_stubs=False))
    yield Fault(
        "value longer than the record",
        "length",
        Sealer(record_0=lambda r: resized(r, lambda b: b[: LEAST - 2] + varint(9000) + b[LEAST:])),
    )
    yield Fault("record cut, zstd", bad, Sealer(codec=lambda s: (4, ref.zstd_raw(s[:300]))))
    yield Fault("record cut, gzip", bad, Sealer(codec=lambda s: (1, ref.gzip_stored(s[:300])[1])))
    yield Fault("null value", none, Sealer(record_0=lambda r: ref.record(0, b"k", None)))
    yield Fault("empty value", none, Sealer(record_0=lambda r: ref.record(0, b"k", b"")))
    yield Fault("value of two bytes of the magic", none, Sealer(record_0=lambda r: ref.record(0, b"k", b"\xc5K")))
    yield Fault("plain value", none, Sealer(record_0=lambda r: ref.record(0, b"k", b"plain")))
    yield Fault(
        "another header on a null value",
        none,
        Sealer(record_0=lambda r: ref.record(0, b"k", None, headers=b"\x02\x02k\x02v")),
    )
    for at in range(3):
        yield Fault(f"magic, byte {at}", none, Sealer(envelope=flip(at)))
    yield Fault(
        "null value with record mode's header",
        "sealed in another mode",
        Sealer(record_0=lambda r: ref.record(0, b"k", None, headers=b"\x02\x0akveil\x02v")),
    )
    yield Fault(
        "null value with record mode's header behind another",
        "sealed in another mode",
        Sealer(record_0=lambda r: ref.record(0, b"k", None, headers=b"\x04\x02k\x02v\x0akveil\x02v")),
    )
    yield Fault("removed, stubs remain", none, Sealer(record_0=lambda r: b"", outer={"count": 2}))
    yield Fault("removed, one stub remains", none, lambda: ref.Batch(ref.stubs(2), 1, last_offset_delta=1).encode())


def header() -> Iterator[Fault]:
    """The envelope header: faults of a writer, all sealed in due form, then changes on the way."""
    for version in (0, 2, 255):
        yield Fault(f"version {version}", "version", Sealer(version=version))
    for mode in (0, 4, 255):
        yield Fault(f"mode {mode}", "mode", Sealer(mode=mode))
    for mode in (2, 3):
        yield Fault(f"mode {mode}", "sealed in another mode", Sealer(mode=mode))
    for suite in (0, 2, 255):
        yield Fault(f"suite {suite}", "suite", Sealer(suite=suite))
    size = len(BLOCK) + 3
    yield Fault("extension length one less", "length", Sealer(extension_length=size - 1))
    yield Fault("extension length one more", "length", Sealer(extension_length=size + 1))
    yield Fault("extensions above 4,096 bytes", "length", Sealer(extensions=lambda b: b"\x05" + lp(bytes(4096)) + b))
    for wrong in (0, 36, 2**31 - 1, 2**32 - 1):
        yield Fault(f"plaintext length {wrong}", "length", Sealer(plaintext_length=wrong))
    length = len(Sealer().made_plaintext())
    yield Fault("plaintext length one less", "length", Sealer(plaintext_length=length - 1))
    yield Fault("plaintext length one more", "length", Sealer(plaintext_length=length + 1))
    for wrong in (0, 2**20 + 1, 2**32 - 1):
        yield Fault(f"count {wrong}", "count differs from the batch", Sealer(count=wrong))
    yield Fault("sealed count is another", "count differs from the batch", Sealer(count=2))
    yield Fault("envelope of 3 bytes", "length", Sealer(envelope=lambda e: e[:3]))
    yield Fault("envelope of 55 bytes", "length", Sealer(envelope=lambda e: e[:55]))
    yield Fault("a byte after the envelope", "length", Sealer(envelope=lambda e: e + b"\x00"))
    yield Fault("last byte of the envelope missing", "length", Sealer(envelope=lambda e: e[:-1]))
    yield Fault("salt, first byte", "commitment", Sealer(envelope=flip(24)))
    yield Fault("salt, last byte", "commitment", Sealer(envelope=flip(47)))
    yield Fault(
        "count changed inside and outside",
        "commitment",
        Sealer(envelope=flip(51), outer={"last_offset_delta": 1, "count": 2}),
    )


def extensions() -> Iterator[Fault]:
    """The extensions."""
    extra = b"\x05\x00\x03abc"
    yield Fault("no extensions", "no key block", Sealer(extensions=lambda b: b""))
    yield Fault("no key block", "no key block", Sealer(extensions=lambda b: extra))
    yield Fault("two key blocks", "extensions out of order", Sealer(extensions=lambda b: b + b))
    yield Fault("descending", "extensions out of order", Sealer(extensions=lambda b: b + extra))
    yield Fault("the same twice", "extensions out of order", Sealer(extensions=lambda b: extra + extra + b))
    for kind in (0x80, 0x82, 0x83, 0x84, 0x85, 0x87, 0xFF):
        pair = (lambda b, k=kind: bytes([k, 0, 0]) + b) if kind < 0x81 else (lambda b, k=kind: b + bytes([k, 0, 0]))
        yield Fault(f"critical extension {kind:#x}", "unknown critical extension", Sealer(extensions=pair))
    bad = "extensions malformed"
    for size in (0, 3, 5):
        origin = b"\x86" + lp(bytes(size))
        yield Fault(f"origin partition of {size} bytes", bad, Sealer(extensions=lambda b, o=origin: b + o))
    hiding = b"\x85" + lp(bytes(16))
    yield Fault("key-hiding key", "unknown critical extension", Sealer(extensions=lambda b: b + hiding))
    yield Fault("one byte too many", bad, Sealer(extensions=lambda b: b + b"\x90"))
    yield Fault("two bytes too many", bad, Sealer(extensions=lambda b: b + b"\x90\x00"))
    yield Fault("body longer than the extensions", bad, Sealer(extensions=lambda b: b[:1] + u(len(b) - 2, 2) + b[3:]))
    yield Fault(
        "extension changed on the way", "commitment", Sealer(extensions=lambda b: extra + b, envelope=flip(56 + 3))
    )
    yield Fault("key name changed on the way", "commitment", Sealer(envelope=flip(56 + 3 + 3)), {"secret": SECRET})


def key_block() -> Iterator[Fault]:
    """The key block."""
    bad = "key block malformed"
    for provider in (0, 9, 255):
        yield Fault(f"provider {provider}", "unknown provider", Sealer(provider=provider))
    for mechanism in (0, 2, 3, 4, 255):
        yield Fault(f"provider 1, mechanism {mechanism}", "mechanism not allowed", Sealer(mechanism=mechanism))
    yield Fault("provider 6, RSA", "mechanism not allowed", Sealer(provider=6, mechanism=3))
    yield Fault("provider 7 with a mechanism", "mechanism not allowed", Sealer(provider=7))
    yield Fault("provider 7 with a wrap", bad, Sealer(provider=7, mechanism=0))
    yield Fault("provider 1 without a wrap", bad, Sealer(wrapped=b""))
    yield Fault("no name", bad, Sealer(name=""))
    yield Fault("name not UTF-8", bad, Sealer(block=b"\x01" + lp(b"\xff\xfe") + b"\x01" + lp(b"1") + lp(WRAP)))
    yield Fault("version not UTF-8", bad, Sealer(block=b"\x01" + lp(b"main") + b"\x01" + lp(b"\xc3") + lp(WRAP)))
    yield Fault("empty", bad, Sealer(block=b""))
    for cut in (1, 2, 5, 7, 8, 9, 10, 11, 12, len(BLOCK) - 1):
        yield Fault(f"cut after {cut} bytes", bad, Sealer(block=BLOCK[:cut]))
    yield Fault("a byte after it", bad, Sealer(block=BLOCK + b"\x00"))
    yield Fault("name longer than the block", bad, Sealer(block=b"\x01\xff\xff" + BLOCK[3:]))


def keys() -> Iterator[Fault]:
    """Keys that are not the batch's, and batches that are not where they were written."""
    direct = {"secret": SECRET}
    wrap, kid = "wrap tag", "kid does not match the key"
    yield Fault("another topic", wrap, Sealer(), {"topic": "orders2"})
    yield Fault("another realm", wrap, Sealer(), {"realm": "demo2"})
    yield Fault("a border moved between realm and topic", wrap, Sealer(), {"realm": "demoo", "topic": "rders"})
    yield Fault("another partition", "commitment", Sealer(), {"partition": 2})
    origin = "origin partition differs"
    named = {partition: b"\x86" + lp(u(partition, 4)) for partition in (3, 4)}
    yield Fault("another origin partition", origin, Sealer(extensions=lambda b: b + named[4]))
    yield Fault("read at another partition", origin, Sealer(extensions=lambda b: b + named[3]), {"partition": 2})
    yield Fault(
        "another partition, any wanted, none named", "commitment", Sealer(), {"partition": 2, "any_partition": True}
    )
    yield Fault(
        "origin partition a lie, any wanted",
        "commitment",
        Sealer(extensions=lambda b: b + named[4]),
        {"any_partition": True},
    )
    yield Fault("another key-encryption key", wrap, Sealer(), {"kek": bytes(32).hex()})
    yield Fault("another topic, key known", kid, Sealer(), direct | {"topic": "orders2"})
    yield Fault("another realm, key known", kid, Sealer(), direct | {"realm": "demo2"})
    yield Fault("another epoch key", kid, Sealer(), {"secret": bytes(32).hex()})
    yield Fault("epoch key of 31 bytes", "key length", Sealer(), {"secret": SECRET[:62]})
    yield Fault("epoch key of 33 bytes", "key length", Sealer(), {"secret": SECRET + "00"})
    yield Fault("key-encryption key of 31 bytes", "key length", Sealer(), {"kek": bytes(31).hex()})
    yield Fault("kid changed on the way", wrap, Sealer(envelope=flip(8)))
    yield Fault(
        "kid changed on the way, key known",
        "sealed under another key",
        Sealer(envelope=flip(23)),
        direct | {"kid": KID.hex()},
    )
    yield Fault("kid of another provider", kid, Sealer(kid=Sealer(provider=2).made_kid()), direct)
    yield Fault(
        "kid of another producer",
        kid,
        Sealer(provider=7, mechanism=0, wrapped=b"", producer_id=b"p-1"),
        direct | {"producer_id": b"p-2".hex()},
    )
    yield Fault("wrap of 71 bytes", "wrap length", Sealer(wrapped=WRAP[:-1]))
    yield Fault("wrap of 73 bytes", "wrap length", Sealer(wrapped=WRAP + b"\x00"))
    for name, at in (("salt", 0), ("key", 24), ("tag", -1)):
        yield Fault(f"wrap, {name} changed", wrap, Sealer(wrapped=flip(at)(WRAP)))
    yield Fault("wrap of another topic's key", wrap, Sealer(wrapped=Sealer(topic="orders2").made_wrap()))


def sealed_part() -> Iterator[Fault]:
    """Commitment, ciphertext and tag."""
    for at in (0, 31):
        yield Fault(f"commitment, byte {at}", "commitment", Sealer(commitment=flip(at)))
    yield Fault("commitment of another batch", "commitment", Sealer(commitment=lambda c: bytes(32)))
    for at in (0, 1, 40, -17, -16, -1):
        yield Fault(f"ciphertext and tag, byte {at}", "tag", Sealer(ciphertext=flip(at)))
    yield Fault("tag all zero", "tag", Sealer(ciphertext=lambda c: c[:-16] + bytes(16)))
    yield Fault("ciphertext changed, zstd", "tag", Sealer(ciphertext=flip(50), codec=ref.zstd_two_part))
    yield Fault("ciphertext changed, gzip", "tag", Sealer(ciphertext=flip(50), codec=ref.gzip_stored))


def plaintext() -> Iterator[Fault]:
    """What only the writer can get wrong."""
    for flag in (2, 4, 0x80, 3):
        yield Fault(f"flags {flag:#x}", "unknown flag", Sealer(flags=flag))
    yield Fault("pad not zero, first byte", "pad", Sealer(pad=b"\x01" + bytes(7)))
    yield Fault("pad not zero, last byte", "pad", Sealer(pad=bytes(7) + b"\x80"))
    yield Fault("pad longer than the plaintext", "pad", Sealer(pad_length=2**32 - 1))
    yield Fault("pad reaches into the prefix", "pad", Sealer(pad_length=len(Sealer().client.records) + 1))
    yield Fault("pad length reaches into the records", "pad", Sealer(pad_length=2))
    for attributes in (0x20, 0x40, 0x80, 0x8000, 5, 6, 7):
        yield Fault(f"attributes {attributes:#x}", "inner attributes", Sealer(inner={"attributes": attributes}))
    yield Fault("compressed twice", "inner attributes", Sealer(flags=1, section=ref.zstd_raw, inner={"attributes": 1}))
    fields = "producer fields differ from the batch"
    for name in ("producer_id", "producer_epoch", "base_sequence"):
        yield Fault(f"inner {name}", fields, Sealer(inner={name: 0}))
    yield Fault("inner transactional bit", fields, Sealer(inner={"attributes": 0x10}))
    inner = "inner compression"
    yield Fault("flag 1 on plain records", inner, Sealer(flags=1))
    yield Fault("flag 1, frame cut", inner, Sealer(flags=1, section=lambda s: ref.zstd_raw(s)[:-1]))
    yield Fault("flag 1, bytes after the frame", inner, Sealer(flags=1, section=lambda s: ref.zstd_raw(s) + b"xx"))


GROUPS = (outer, codecs, record_0, header, extensions, key_block, keys, sealed_part, plaintext)
CASES = [
    Fault(f"{group.__name__}: {case.name}", case.reason, case.made, case.reader) for group in GROUPS for case in group()
]
