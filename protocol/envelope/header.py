"""The envelope header, its extensions and the key block (FORMAT.md, sections 3 and 4). Decoding is strict."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.crypto import SIGNATURE_LENGTH
from kveil.protocol.envelope.errors import Reason, Unopenable
from kveil.protocol.envelope.position import Position

# magic 3, version, mode, suite, extension length, kid 16, salt 24, count or index, plaintext length
HEADER: Final = Struct(">3sBBBH16s24sII")
KID_LENGTH: Final = 16
SALT_LENGTH: Final = 24
HIDING_KEY_ID_LENGTH: Final = 16

# A few key blocks' worth; a KMS wrap is a few hundred bytes, and a reader holds this much before it knows the
# sender.
MAX_EXTENSIONS: Final = 4096

_LP = Struct(">H")
_EXTENSION = Struct(">BH")
_SIGNATURE = Struct(">BH")  # suite, trailer length
_PARTITION = Struct(">i")
_CACHED_EXTENSIONS = 1024  # 12 MiB at worst; without positions, all of an epoch have the same bytes

_KNOWN_TO_BATCHES = frozenset(
    {registry.KEY_BLOCK, registry.STREAM_POSITION, registry.SIGNATURE, registry.ORIGIN_PARTITION}
)
_KNOWN_TO_RECORDS = _KNOWN_TO_BATCHES | {registry.KEY_HIDING_KEY}
_OF_ANNOUNCED_KEYS = frozenset({registry.STREAM_POSITION, registry.SIGNATURE})
_ANNOUNCED = bytes((registry.ANNOUNCED,))
_BODY_LENGTHS = {
    registry.SIGNATURE: _SIGNATURE.size,
    registry.KEY_HIDING_KEY: HIDING_KEY_ID_LENGTH,
    registry.ORIGIN_PARTITION: _PARTITION.size,
}

TRAILER_LENGTHS: Final = frozenset({0, SIGNATURE_LENGTH})
"""What may stand behind the tag."""


def lp(data: bytes) -> bytes:
    """A 2-byte length and `data`. Raises ValueError above 65,535 bytes."""
    if len(data) > 0xFFFF:
        raise ValueError(f"{len(data)} bytes don't fit a 2-byte length")
    return _LP.pack(len(data)) + data


class KeyBlock(NamedTuple):
    """Extension 0x81: who wrapped the epoch key, under which of its keys, and the wrap (FORMAT.md, section
    4.1). A tuple, since keys are found by it, and a dataclass takes ten times as long to hash.

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


class Extensions(NamedTuple):
    """What the extensions of an envelope say."""

    block: KeyBlock
    hiding_key_id: bytes | None
    origin_partition: int | None
    position: Position | None = None
    trailer_length: int = 0

    def partition_for(self, partition: int, *, any_partition: bool) -> int:
        """The partition that the envelope is bound to, `partition` being where the reader found it.

        With `any_partition` the one that the envelope names, if it names one. Raises Unopenable if it names another.
        """
        if self.origin_partition is None:
            return partition
        if not any_partition and self.origin_partition != partition:
            raise Unopenable(Reason.PARTITION)
        return self.origin_partition


def encode_extensions(block: KeyBlock) -> bytes:
    """The extensions of an envelope that has a key block only. Raises ValueError above 4,096 bytes."""
    return within_limit(_extension(registry.KEY_BLOCK, block.encode()))


def extend(extensions: bytes, *, hiding_key_id: bytes | None = None, origin_partition: int | None = None) -> bytes:
    """`extensions`, which end with the key block, and more. Raises ValueError above 4,096 bytes."""
    if hiding_key_id is not None:
        extensions += _extension(registry.KEY_HIDING_KEY, hiding_key_id)
    if origin_partition is not None:
        extensions += _extension(registry.ORIGIN_PARTITION, _PARTITION.pack(origin_partition))
    return within_limit(extensions)


def position_extension(position: Position) -> bytes:
    """Extension 0x82, which comes right behind the key block. Raises ValueError if a reader would refuse it."""
    return _extension(registry.STREAM_POSITION, position.encode())


SIGNATURE_EXTENSION: Final = bytes((registry.SIGNATURE,)) + lp(_SIGNATURE.pack(registry.ED25519, SIGNATURE_LENGTH))


def within_limit(extensions: bytes) -> bytes:
    """`extensions`. Raises ValueError above 4,096 bytes."""
    if len(extensions) > MAX_EXTENSIONS:
        raise ValueError(f"extensions of {len(extensions)} bytes")
    return extensions


def _extension(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + lp(body)


@lru_cache(maxsize=_CACHED_EXTENSIONS)
def decode_extensions(extensions: bytes, mode: int) -> Extensions:
    """What `extensions`, all of which are checked, say in an envelope of `mode`. Raises Unopenable.

    Unknown extensions that are not critical are passed over; they are authenticated with the rest.
    """
    found: dict[int, bytes] = {}
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
        if kind in _OF_ANNOUNCED_KEYS and not found.get(registry.KEY_BLOCK, b"").startswith(_ANNOUNCED):
            raise Unopenable(Reason.EXTENSION_UNKNOWN)
        found[kind] = _check_extension(kind, extensions[body_at:pos], mode)
    if registry.KEY_BLOCK not in found:
        raise Unopenable(Reason.KEY_BLOCK_MISSING)
    origin = found.get(registry.ORIGIN_PARTITION)
    position = found.get(registry.STREAM_POSITION)
    return Extensions(
        KeyBlock.decode(found[registry.KEY_BLOCK]),
        found.get(registry.KEY_HIDING_KEY),
        None if origin is None else _PARTITION.unpack(origin)[0],
        None if position is None else Position.decode(position),
        _trailer_length(found.get(registry.SIGNATURE)),
    )


def _trailer_length(body: bytes | None) -> int:
    """How many bytes stand behind the tag, by the body of 0x83."""
    if body is None:
        return 0
    suite, length = _SIGNATURE.unpack(body)
    if suite != registry.ED25519:
        raise Unopenable(Reason.SIGNATURE_SUITE)
    if length != SIGNATURE_LENGTH:
        raise Unopenable(Reason.EXTENSIONS)
    return SIGNATURE_LENGTH


def _check_extension(kind: int, body: bytes, mode: int) -> bytes:
    """`body`, if an envelope of `mode` may have it under `kind`."""
    known = _KNOWN_TO_BATCHES if mode == registry.BATCH else _KNOWN_TO_RECORDS
    if kind & registry.CRITICAL and kind not in known:
        raise Unopenable(Reason.EXTENSION_UNKNOWN)
    if len(body) != _BODY_LENGTHS.get(kind, len(body)):
        raise Unopenable(Reason.EXTENSIONS)
    return body
