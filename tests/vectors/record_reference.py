"""The second, slow writer for record mode, made from FORMAT.md, section 10, alone: it imports nothing of kveil.

As in `reference`, every step can be bent. What is bent, is bent in one record of the batch only: the one at `bent`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.vectors.reference import Batch, Sealer, hkdf_expand, keep, lp, place, record, u, varint


@dataclass
class Plain:
    """A record as the application writes it; `headers` with their count."""

    key: bytes | None
    value: bytes | None
    delta: int = 0
    headers: bytes = b"\x00"


def header(name: bytes, value: bytes | None) -> bytes:
    return varint(len(name)) + name + (varint(-1) if value is None else varint(len(value)) + value)


def headers(*made: bytes) -> bytes:
    return varint(len(made)) + b"".join(made)


TRACE = header(b"trace", b"0af7") + header(b"empty", None)


def three_records() -> list[Plain]:
    """A value, a tombstone, a value with headers."""
    return [
        Plain(b"key-1", b"value one"),
        Plain(b"key-2", None, delta=10),
        Plain(b"key-1", b"value three", delta=20, headers=b"\x04" + TRACE),
    ]


@dataclass
class RecordSealer(Sealer):
    """Seals each record by itself. `client` counts for its header fields only."""

    records: list[Plain] = field(default_factory=three_records)
    hiding: bytes | None = bytes(range(0xD0, 0xF0))
    hiding_id: bytes = bytes(range(0x10, 0x20))
    origin: int | None = None
    bent: int = 0
    # of the record at `bent` alone, as are Sealer's own from `magic` on
    mode: Any = None
    index: int | None = None
    wire_key: Callable[[bytes | None], bytes | None] = keep
    inner_key: Callable[[bytes], bytes] = keep
    key_length: int | None = None
    inner_headers: Callable[[bytes], bytes] = keep
    value: Callable[[bytes], bytes] = keep
    placed: Callable[[bytes], tuple[bytes | None, bytes]] | None = None  # an envelope to value and headers on the wire
    wire: Callable[[bytes], bytes] = keep

    def of(self, i: int, name: str) -> Any:
        """A field for the record at `i`: as it is by default, unless that is the bent one."""
        return getattr(self if i == self.bent else UNBENT, name)

    def hidden(self, i: int) -> bytes | None:
        """What stands on the wire in place of the key."""
        key = self.records[i].key
        if key is None or self.hiding is None:
            return key
        return hkdf_expand(self.hiding, b"kveil/v1/key\x00" + place(self.realm, self.topic) + key, 32)

    def plaintext_of(self, i: int) -> bytes:
        plain = self.records[i]
        key, length = plain.key, -1
        if self.hiding is not None and key is not None:
            key, length = self.of(i, "inner_key")(key), len(key)
        else:
            key = self.of(i, "inner_key")(b"")
        pad, pad_length, key_length = self.of(i, "pad"), self.of(i, "pad_length"), self.of(i, "key_length")
        return (
            u(self.of(i, "flags"), 1)
            + u(len(pad) if pad_length is None else pad_length, 4)
            + u(self.client.base_timestamp + plain.delta, 8)
            + u(length if key_length is None else key_length, 4)
            + key
            + self.of(i, "inner_headers")(plain.headers)
            + self.of(i, "value")(plain.value or b"")
            + pad
        )

    def extensions_of(self, i: int) -> bytes:
        made = b"\x81" + lp(self.made_block() if self.block is None else self.block)
        made += self.made_more()
        if self.hiding is not None:
            made += b"\x85" + lp(self.hiding_id)
        if self.origin is not None:
            made += b"\x86" + lp(u(self.origin, 4))
        return self.of(i, "extensions")(made)

    def key_and_base(self) -> bytes:
        info = b"kveil/v1/record\x00" + place(self.realm, self.topic) + u(self.partition, 4)
        return hkdf_expand(self.secret, info + b"\x01" + self.made_kid() + self.salt, 44)

    def envelope_of(self, i: int) -> bytes:
        plaintext, extensions = self.plaintext_of(i), self.extensions_of(i)
        lengths = self.of(i, "extension_length"), self.of(i, "plaintext_length")
        mode, kid, index = self.of(i, "mode"), self.of(i, "kid"), self.of(i, "index")
        index = i if index is None else index
        head = (
            self.of(i, "magic")
            + bytes([self.of(i, "version"), (3 if self.records[i].value is None else 2) if mode is None else mode])
            + bytes([self.of(i, "suite")])
            + u(len(extensions) if lengths[0] is None else lengths[0], 2)
            + (self.made_kid() if kid is None else kid)
            + self.salt
            + u(index, 4)
            + u(len(plaintext) if lengths[1] is None else lengths[1], 4)
            + extensions
        )
        made = self.key_and_base()
        nonce = u(int.from_bytes(made[32:], "big") ^ index, 12)
        wire_key = self.hidden(i)
        key_part = b"\x00" if wire_key is None else b"\x01" + wire_key
        whole = head + self.of(i, "ciphertext")(AESGCM(made[:32]).encrypt(nonce, plaintext, head + key_part))
        return self.of(i, "envelope")(whole + self.of(i, "trailer")(self.made_trailer(whole, key_part)))

    def wire_record(self, i: int, offset: int, base_timestamp: int) -> bytes:
        """The sealed record at `offset` of some batch."""
        envelope, placed = self.envelope_of(i), self.of(i, "placed")
        if placed:
            value, made_headers = placed(envelope)
        elif self.records[i].value is None:
            value, made_headers = None, headers(header(b"kveil", envelope))
        else:
            value, made_headers = envelope, b"\x00"
        delta = self.timestamp(i) - base_timestamp
        return self.of(i, "wire")(record(offset, self.of(i, "wire_key")(self.hidden(i)), value, delta, made_headers))

    def timestamp(self, i: int) -> int:
        return self.client.base_timestamp + self.records[i].delta

    def parts(self) -> list["Part"]:
        return [(self, i) for i in range(len(self.records))]

    def seal(self) -> bytes:
        return stored(self.parts(), codec=self.codec, **self.outer)

    def made_client(self) -> bytes:
        """The batch as the client sent it."""
        section = b"".join(record(i, p.key, p.value, p.delta, p.headers) for i, p in enumerate(self.records))
        return Batch(section, len(self.records), **outer_fields(self)).encode()

    def opened(self, **fields: Any) -> bytes:
        """The batch as the client gets it."""
        return delivered(self.parts(), **fields)


UNBENT = RecordSealer()

Part = tuple[RecordSealer, int]
"""A record of a writer's batch: the writer and its position."""


def outer_fields(sealer: RecordSealer) -> dict[str, int]:
    names = ("base_timestamp", "max_timestamp", "producer_id", "producer_epoch", "base_sequence")
    return {name: getattr(sealer.client, name) for name in names} | {"attributes": sealer.client.attributes & 0x10}


def stored(
    parts: list[Part],
    offsets: list[int] | None = None,
    codec: Callable[[bytes], tuple[int, bytes]] = lambda section: (0, section),
    **outer: int,
) -> bytes:
    """A broker's batch of these sealed records; header fields are those of the first one's writer."""
    fields = outer_fields(parts[0][0])
    at = list(range(len(parts))) if offsets is None else offsets
    base = fields["base_timestamp"]
    section = b"".join(sealer.wire_record(i, offset, base) for (sealer, i), offset in zip(parts, at, strict=True))
    number, packed = codec(section)
    fields["attributes"] |= number
    return Batch(packed, **fields | {"count": len(parts), "last_offset_delta": at[-1]} | outer).encode()


def delivered(parts: list[Part], offsets: list[int] | None = None, extra: bytes | None = None, **outer: int) -> bytes:
    """The same batch as a client gets it; with `extra`, that header behind those of the first record."""
    at = list(range(len(parts))) if offsets is None else offsets
    times = [sealer.timestamp(i) for sealer, i in parts]
    section = b""
    for (sealer, i), offset, time in zip(parts, at, times, strict=True):
        plain = sealer.records[i]
        made = plain.headers
        if extra is not None and not section:
            made = varint(plain.headers[0] // 2 + 1) + plain.headers[1:] + extra
        section += record(offset, plain.key, plain.value, time - times[0], made)
    fields = outer_fields(parts[0][0]) | {"base_timestamp": times[0], "max_timestamp": max(times)}
    return Batch(section, **fields | {"count": len(parts), "last_offset_delta": at[-1]} | outer).encode()
