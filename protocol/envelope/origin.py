"""The envelope of one record, and what it shares with the others of its writer's batch (FORMAT.md, section 10)."""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.crypto import TAG_LENGTH
from kveil.protocol.envelope.errors import NotSealed, OtherMode, Reason, Unopenable
from kveil.protocol.envelope.header import HEADER, MAX_EXTENSIONS, TRAILER_LENGTHS, Extensions, decode_extensions
from kveil.protocol.envelope.sealed_batch import TOMBSTONE_HEADER
from kveil.protocol.kafka.records import Header

INDEX_AND_LENGTH = Struct(">II")
COMMON_LENGTH = HEADER.size - INDEX_AND_LENGTH.size  # of the envelope header: magic to salt


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Origin:
    """What envelopes of one writer's batch have in common. Nothing in it is authenticated."""

    mode: int
    kid: bytes
    salt: bytes
    extensions: bytes = field(repr=False)
    says: Extensions
    ciphertext_at: int
    overhead: int
    """What an envelope has beside the ciphertext: header, extensions, tag, trailer."""


SealedRecord = tuple[Origin, int, int, bytes | None, bytes, list[Header]]
"""Origin, index, offset delta, wire key, envelope, wire headers."""


def find_envelope(value: bytes | None, headers: list[Header]) -> tuple[bytes, int]:
    """The envelope of a record, and the mode that it must have there. Empty if there is none."""
    own = [content for name, content, _ in headers if name == TOMBSTONE_HEADER]
    if value is not None:
        if own:
            raise Unopenable(Reason.OUT_OF_PLACE)
        return value, registry.RECORD
    if len(own) > 1:
        raise Unopenable(Reason.OUT_OF_PLACE)
    return (own[0] or b"") if own else b"", registry.TOMBSTONE


def find_origin(envelope: bytes, mode: int, origins: dict[tuple[bytes, bytes], Origin]) -> Origin:
    """What the envelope shares with others, from `origins` if it is known there. Raises NotSealed or Unopenable."""
    if not envelope.startswith(registry.MAGIC):
        raise NotSealed("a record has no envelope")
    if len(envelope) < HEADER.size:
        raise Unopenable(Reason.LENGTH)
    _, version, found_mode, suite, extension_length, kid, salt, _, size = HEADER.unpack_from(envelope)
    if version != registry.VERSION:
        raise Unopenable(Reason.VERSION)
    _check_mode(found_mode, mode)
    if suite != registry.HKDF_SHA512_AES_256_GCM:
        raise Unopenable(Reason.SUITE)
    ciphertext_at = HEADER.size + extension_length
    if extension_length > MAX_EXTENSIONS:
        raise Unopenable(Reason.LENGTH)
    trailer_length = len(envelope) - (ciphertext_at + size + TAG_LENGTH)
    if trailer_length not in TRAILER_LENGTHS:
        raise Unopenable(Reason.LENGTH)
    extensions = envelope[HEADER.size : ciphertext_at]
    shared = envelope[:COMMON_LENGTH], extensions
    if shared not in origins:
        says = decode_extensions(extensions, mode)
        if says.trailer_length != trailer_length:
            raise Unopenable(Reason.LENGTH)
        origins[shared] = Origin(
            mode=mode,
            kid=kid,
            salt=salt,
            extensions=extensions,
            says=says,
            ciphertext_at=ciphertext_at,
            overhead=ciphertext_at + TAG_LENGTH + trailer_length,
        )
    return origins[shared]


def _check_mode(found: int, expected: int) -> None:
    if found == registry.BATCH:
        raise OtherMode
    if found not in {registry.RECORD, registry.TOMBSTONE}:
        raise Unopenable(Reason.MODE)
    if found != expected:
        raise Unopenable(Reason.OUT_OF_PLACE)
