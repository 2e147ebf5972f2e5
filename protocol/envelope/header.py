"""The envelope header, its extensions and the key block (FORMAT.md, sections 3 and 4). Decoding is strict."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import Final

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.errors import Reason, Unopenable

# magic 3, version, mode, suite, extension length, kid 16, salt 24, count or index, plaintext length
HEADER: Final = Struct(">3sBBBH16s24sII")
KID_LENGTH: Final = 16
SALT_LENGTH: Final = 24

# A few key blocks' worth; a KMS wrap is a few hundred bytes, and a reader holds this much before it knows the
# sender.
MAX_EXTENSIONS: Final = 4096

_LP = Struct(">H")
_EXTENSION = Struct(">BH")
_CACHED_EXTENSIONS = 1024  # 4 MiB at worst; every batch of an epoch carries the same bytes


def lp(data: bytes) -> bytes:
    """A 2-byte length and `data`. Raises ValueError above 65,535 bytes."""
    if len(data) > 0xFFFF:
        raise ValueError(f"{len(data)} bytes don't fit a 2-byte length")
    return _LP.pack(len(data)) + data


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyBlock:
    """Extension 0x81: who wrapped the epoch key, under which of its keys, and the wrap (FORMAT.md, section
    4.1).

    `name` and `version` are looked up in the reader's own configuration, never called or connected to.
    """

    provider: int
    name: str
    mechanism: int
    version: str
    wrapped: bytes

    def encode(self) -> bytes:
        """The extension's body. Raises Unopenable if a reader would refuse it."""
        _check_key_block(self)
        return b"".join(
            (
                bytes((self.provider,)),
                lp(self.name.encode()),
                bytes((self.mechanism,)),
                lp(self.version.encode()),
                lp(self.wrapped),
            )
        )

    @classmethod
    def decode(cls, body: bytes) -> KeyBlock:
        """Strict inverse of `encode`. Raises Unopenable."""
        if len(body) < 1:
            raise Unopenable(Reason.KEY_BLOCK)
        name, pos = _read_lp(body, 1)
        if pos >= len(body):
            raise Unopenable(Reason.KEY_BLOCK)
        version, after = _read_lp(body, pos + 1)
        wrapped, end = _read_lp(body, after)
        if end != len(body):
            raise Unopenable(Reason.KEY_BLOCK)
        try:
            block = cls(
                provider=body[0],
                name=name.decode(),
                mechanism=body[pos],
                version=version.decode(),
                wrapped=wrapped,
            )
        except UnicodeDecodeError:
            raise Unopenable(Reason.KEY_BLOCK) from None
        _check_key_block(block)
        return block


def _check_key_block(block: KeyBlock) -> None:
    allowed = registry.ALLOWED_MECHANISMS.get(block.provider)
    if allowed is None:
        raise Unopenable(Reason.PROVIDER)
    if block.mechanism not in allowed:
        raise Unopenable(Reason.MECHANISM)
    if not block.name or (not block.wrapped) != (block.mechanism == registry.NO_WRAP):
        raise Unopenable(Reason.KEY_BLOCK)


def _read_lp(body: bytes, pos: int) -> tuple[bytes, int]:
    """The length-prefixed bytes at `pos` and the position after them. Raises Unopenable if they are cut."""
    start = pos + _LP.size
    if start > len(body):
        raise Unopenable(Reason.KEY_BLOCK)
    end = start + _LP.unpack_from(body, pos)[0]
    if end > len(body):
        raise Unopenable(Reason.KEY_BLOCK)
    return body[start:end], end


def encode_extensions(block: KeyBlock) -> bytes:
    """The extensions of an envelope that has a key block only. Raises ValueError above 4,096 bytes."""
    body = block.encode()
    extensions = bytes((registry.KEY_BLOCK,)) + lp(body)
    if len(extensions) > MAX_EXTENSIONS:
        raise ValueError(f"extensions of {len(extensions)} bytes")
    return extensions


@lru_cache(maxsize=_CACHED_EXTENSIONS)
def decode_extensions(extensions: bytes) -> KeyBlock:
    """The key block among `extensions`, all of which are checked. Raises Unopenable.

    Unknown extensions that are not critical are passed over; they are authenticated with the rest.
    """
    block: KeyBlock | None = None
    pos, last = 0, -1
    while pos < len(extensions):
        body_at = pos + _EXTENSION.size
        if body_at > len(extensions):
            raise Unopenable(Reason.EXTENSIONS)
        kind, length = _EXTENSION.unpack_from(extensions, pos)
        pos = body_at + length
        if pos > len(extensions):
            raise Unopenable(Reason.EXTENSIONS)
        if kind <= last:
            raise Unopenable(Reason.EXTENSION_ORDER)
        last = kind
        if kind == registry.KEY_BLOCK:
            block = KeyBlock.decode(extensions[body_at:pos])
        elif kind & registry.CRITICAL:
            raise Unopenable(Reason.EXTENSION_UNKNOWN)
    if block is None:
        raise Unopenable(Reason.KEY_BLOCK_MISSING)
    return block
