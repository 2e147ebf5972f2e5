"""A second, slow writer of sealed batches, made from FORMAT.md alone: it imports nothing of kveil.

It is the oracle of the tests: the product must write the same bytes, given the same random ones, and open
what stands in the vectors. Every step can be bent, because most vectors are faults, one each.
"""

import gzip
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def u(value: int, size: int) -> bytes:
    """`value` as `size` big-endian bytes, two's complement if negative."""
    return (value & ((1 << (8 * size)) - 1)).to_bytes(size, "big")


def lp(data: bytes) -> bytes:
    return u(len(data), 2) + data


def varint(value: int) -> bytes:
    zigzag = 2 * value if value >= 0 else -2 * value - 1
    out = b""
    while zigzag > 127:
        out += bytes([zigzag % 128 + 128])
        zigzag //= 128
    return out + bytes([zigzag])


def crc_of_byte(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


CRC_TABLE = [crc_of_byte(byte) for byte in range(256)]


def crc32c(data: bytes) -> int:
    """RFC 3720, appendix B.4, a byte at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[crc & 255 ^ byte]
    return crc ^ 0xFFFFFFFF


def hkdf_expand(key: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, section 2.3, SHA-512."""
    out = block = b""
    counter = 1
    while len(out) < length:
        block = hmac.new(key, block + info + bytes([counter]), hashlib.sha512).digest()
        out += block
        counter += 1
    return out[:length]


def place(realm: str, topic: str) -> bytes:
    return lp(realm.encode()) + lp(topic.encode())


def record(index: int, key: bytes | None, value: bytes | None, delta: int = 0, headers: bytes = b"\x00") -> bytes:
    """One record of a records section; `headers` with its count."""
    body = b"\x00" + varint(delta) + varint(index)
    for part in (key, value):
        body += varint(-1) if part is None else varint(len(part)) + part
    body += headers
    return varint(len(body)) + body


@dataclass
class Batch:
    """A record batch, header fields as on the wire. `length` and `crc` are computed unless given."""

    records: bytes
    count: int
    base_offset: int = 0
    leader_epoch: int = -1
    magic: int = 2
    attributes: int = 0
    last_offset_delta: int | None = None
    base_timestamp: int = 1_700_000_000_000
    max_timestamp: int = 1_700_000_000_020
    producer_id: int = -1
    producer_epoch: int = -1
    base_sequence: int = -1
    length: int | None = None
    crc: int | None = None

    def encode(self) -> bytes:
        delta = self.count - 1 if self.last_offset_delta is None else self.last_offset_delta
        covered = (
            u(self.attributes, 2)
            + u(delta, 4)
            + u(self.base_timestamp, 8)
            + u(self.max_timestamp, 8)
            + u(self.producer_id, 8)
            + u(self.producer_epoch, 2)
            + u(self.base_sequence, 4)
            + u(self.count, 4)
            + self.records
        )
        crc = crc32c(covered) if self.crc is None else self.crc
        rest = u(self.leader_epoch, 4) + u(self.magic, 1) + u(crc, 4) + covered
        return u(self.base_offset, 8) + u(len(rest) if self.length is None else self.length, 4) + rest


def client_records(count: int) -> bytes:
    """`count` records as an application might write them."""
    return b"".join(
        record(i, b"key-%d" % i if i % 2 else None, b"value %d " % i * 3, delta=i * 10) for i in range(count)
    )


def stubs(count: int) -> bytes:
    return b"".join(record(index, None, None) for index in range(1, count))


# Outer codecs, in forms that need no compressor: (codec number, bytes).


def plain(section: bytes) -> tuple[int, bytes]:
    return 0, section


def gzip_stored(section: bytes) -> tuple[int, bytes]:
    packed = bytearray(gzip.compress(section, compresslevel=0, mtime=0))
    packed[9] = 255  # the operating system, which Python's versions fill in differently
    return 1, bytes(packed)


def snappy_raw(section: bytes) -> tuple[int, bytes]:
    """Raw snappy of literals, each with a 2-byte length (tag 61)."""
    size, out = len(section), b""
    while size > 127:
        out += bytes([size % 128 + 128])
        size //= 128
    out += bytes([size])
    for pos in range(0, len(section), 65536):
        literal = section[pos : pos + 65536]
        out += bytes([61 << 2]) + (len(literal) - 1).to_bytes(2, "little") + literal
    return 2, out


def snappy_framed(section: bytes, size: int = 100) -> tuple[int, bytes]:
    """The framing of snappy-java, in blocks of `size`."""
    out = b"\x82SNAPPY\x00" + u(1, 4) + u(1, 4)
    for pos in range(0, len(section), size):
        out += lp4(snappy_raw(section[pos : pos + size])[1])
    return 2, out


def lp4(data: bytes) -> bytes:
    return u(len(data), 4) + data


def lz4_stored(section: bytes, size: int = 200) -> tuple[int, bytes]:
    """An lz4 frame of uncompressed blocks: version 1, independent blocks, no checksums, 64 KiB at most each."""
    descriptor = b"\x60\x40"
    out = b"\x04\x22\x4d\x18" + descriptor + bytes([xxh32_short(descriptor) >> 8 & 0xFF])
    for pos in range(0, len(section), size):
        block = section[pos : pos + size]
        out += (len(block) | 0x80000000).to_bytes(4, "little") + block
    return 3, out + bytes(4)


def xxh32_short(data: bytes) -> int:
    """xxHash-32 with seed 0, of less than 4 bytes."""
    mask, h = 0xFFFFFFFF, 374761393 + len(data)
    for byte in data:
        h = (h + byte * 374761393) & mask
        h = ((h << 11 | h >> 21) & mask) * 2654435761 & mask
    h = (h ^ h >> 15) * 2246822519 & mask
    h = (h ^ h >> 13) * 3266489917 & mask
    return h ^ h >> 16


def zstd_raw(section: bytes, size: int = 131072, header: bytes = b"\x00\x38") -> bytes:
    """One zstd frame of raw blocks of `size`; `header` is what stands after the magic number."""
    out = b"\x28\xb5\x2f\xfd" + header
    starts = range(0, len(section), size)
    for pos in starts:
        block = section[pos : pos + size]
        out += (len(block) << 3 | (pos == starts[-1])).to_bytes(3, "little") + block
    return out


def zstd_two_part(section: bytes) -> tuple[int, bytes]:
    """Record 0 in a frame of its own, as a writer does; the stubs in another."""
    end = first_record_end(section)
    return 4, zstd_raw(section[:end]) + zstd_raw(section[end:])


def first_record_end(section: bytes) -> int:
    value = shift = pos = 0
    while True:
        value |= (section[pos] & 127) << shift
        shift += 7
        pos += 1
        if section[pos - 1] < 128:
            return pos + value // 2


def keep(value: bytes) -> bytes:
    return value


@dataclass
class Sealer:
    """Seals one client batch, step by step as in FORMAT.md. Fields that are None are computed."""

    client: Batch = field(default_factory=lambda: Batch(client_records(3), 3))
    realm: str = "demo"
    topic: str = "orders"
    partition: int = 3
    secret: bytes = bytes(range(32))
    kek: bytes = bytes(range(0x40, 0x60))
    wrap_salt: bytes = bytes(range(0x80, 0x98))
    salt: bytes = bytes(range(0xA0, 0xB8))
    record_key: bytes | None = bytes(range(0xC0, 0xD0))
    producer_id: bytes = b""
    # key block
    provider: int = 1
    name: str = "main"
    mechanism: int = 1
    key_version: str = "1"
    wrapped: bytes | None = None
    block: bytes | None = None
    # envelope
    magic: bytes = b"\xc5KV"
    version: int = 1
    mode: int = 1
    suite: int = 1
    kid: bytes | None = None
    count: int | None = None
    extension_length: int | None = None
    plaintext_length: int | None = None
    extensions: Callable[[bytes], bytes] = keep  # given extension 0x81
    commitment: Callable[[bytes], bytes] = keep
    ciphertext: Callable[[bytes], bytes] = keep
    envelope: Callable[[bytes], bytes] = keep
    # position and signature
    position: bytes | None = None
    signing: bytes | None = None
    signature_says: bytes = b"\x01\x00\x40"
    signed_as: dict[str, Any] = field(default_factory=dict)
    trailer: Callable[[bytes], bytes] = keep
    # plaintext
    flags: int = 0
    pad: bytes = b""
    pad_length: int | None = None
    inner: dict[str, int] = field(default_factory=dict)
    section: Callable[[bytes], bytes] = keep
    # record 0 and the batch around it
    offset_delta: int = 0
    timestamp_delta: int = 0
    headers: bytes = b"\x00"
    record_0: Callable[[bytes], bytes] = keep
    with_stubs: bool = True
    codec: Callable[[bytes], tuple[int, bytes]] = plain
    outer: dict[str, int] = field(default_factory=dict)

    def made_kid(self) -> bytes:
        info = b"kveil/v1/kid\x00" + place(self.realm, self.topic) + bytes([self.provider]) + lp(self.producer_id)
        return hkdf_expand(self.secret, info, 48)[:16]

    def made_wrap(self) -> bytes:
        kid = self.made_kid()
        info = b"kveil/v1/wrap\x00" + place(self.realm, self.topic) + kid + self.wrap_salt
        made = hkdf_expand(self.kek, info, 44)
        return self.wrap_salt + AESGCM(made[:32]).encrypt(made[32:], self.secret, b"")

    def made_block(self) -> bytes:
        wrapped = self.made_wrap() if self.wrapped is None else self.wrapped
        return (
            bytes([self.provider])
            + lp(self.name.encode())
            + bytes([self.mechanism])
            + lp(self.key_version.encode())
            + lp(wrapped)
        )

    def made_more(self) -> bytes:
        """Extensions 0x82 and 0x83."""
        made = b"" if self.position is None else b"\x82" + lp(self.position)
        return made if self.signing is None else made + b"\x83" + lp(self.signature_says)

    def made_trailer(self, envelope: bytes, key_part: bytes = b"") -> bytes:
        if self.signing is None:
            return b""
        told = {"realm": self.realm, "topic": self.topic, "partition": self.partition, "key_part": key_part}
        told |= self.signed_as
        signed = b"kveil/v1/sig\x00" + place(told["realm"], told["topic"]) + u(told["partition"], 4)
        signed += hashlib.sha256(envelope + told["key_part"]).digest()
        return Ed25519PrivateKey.from_private_bytes(self.signing).sign(signed)

    def made_plaintext(self) -> bytes:
        c = self.client
        inner = {
            "attributes": c.attributes,
            "base_timestamp": c.base_timestamp,
            "max_timestamp": c.max_timestamp,
            "producer_id": c.producer_id,
            "producer_epoch": c.producer_epoch,
            "base_sequence": c.base_sequence,
        } | self.inner
        return (
            u(self.flags, 1)
            + u(len(self.pad) if self.pad_length is None else self.pad_length, 4)
            + u(inner["attributes"], 2)
            + u(inner["base_timestamp"], 8)
            + u(inner["max_timestamp"], 8)
            + u(inner["producer_id"], 8)
            + u(inner["producer_epoch"], 2)
            + u(inner["base_sequence"], 4)
            + self.section(c.records)
            + self.pad
        )

    def made_envelope(self) -> bytes:
        plaintext = self.made_plaintext()
        block = self.made_block() if self.block is None else self.block
        extensions = self.extensions(b"\x81" + lp(block) + self.made_more())
        header = (
            self.magic
            + bytes([self.version, self.mode, self.suite])
            + u(len(extensions) if self.extension_length is None else self.extension_length, 2)
            + (self.made_kid() if self.kid is None else self.kid)
            + self.salt
            + u(self.client.count if self.count is None else self.count, 4)
            + u(len(plaintext) if self.plaintext_length is None else self.plaintext_length, 4)
        )
        info = b"kveil/v1/batch\x00" + place(self.realm, self.topic) + u(self.partition, 4) + header + extensions
        made = hkdf_expand(self.secret, info, 76)
        sealed = AESGCM(made[:32]).encrypt(made[32:44], plaintext, b"")
        whole = header + extensions + self.commitment(made[44:]) + self.ciphertext(sealed)
        return self.envelope(whole + self.trailer(self.made_trailer(whole)))

    def seal(self) -> bytes:
        c = self.client
        first = record(self.offset_delta, self.record_key, self.made_envelope(), self.timestamp_delta, self.headers)
        section = self.record_0(first) + (stubs(c.count) if self.with_stubs else b"")
        codec, records = self.codec(section)
        outer = {
            "attributes": c.attributes & 0x10 | codec,
            "last_offset_delta": c.count - 1,
            "base_timestamp": c.max_timestamp,
            "max_timestamp": c.max_timestamp,
            "producer_id": c.producer_id,
            "producer_epoch": c.producer_epoch,
            "base_sequence": c.base_sequence,
            "count": c.count,
        } | self.outer
        return Batch(records, **outer).encode()
