"""What an envelope says of itself to anyone, read without a key: for people, so as much of a damaged one as holds."""

from __future__ import annotations

from typing import Final, NamedTuple

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.errors import Unopenable
from kveil.protocol.envelope.header import HEADER, Extensions, decode_extensions
from kveil.protocol.kafka.primitives import Buffer

MODES: Final = {registry.BATCH: "batch", registry.RECORD: "record", registry.TOMBSTONE: "tombstone"}
SUITES: Final = {registry.HKDF_SHA512_AES_256_GCM: "HKDF-SHA512 + AES-256-GCM"}


class Outline(NamedTuple):
    """The header of an envelope of version 1, and its extensions. Nothing in it is authenticated."""

    mode: int
    suite: int
    kid: bytes
    number: int
    """In batch mode how many records there are, else the index of this one."""
    plaintext_length: int
    ciphertext_at: int
    """Where the extensions end: in batch mode the commitment stands between."""
    says: Extensions | None
    """None if the extensions can't be read."""

    @property
    def mode_name(self) -> str:
        """The mode for people."""
        return MODES.get(self.mode, str(self.mode))

    @property
    def suite_name(self) -> str:
        """The suite for people."""
        return SUITES.get(self.suite, str(self.suite))


def version_of(front: Buffer) -> int | None:
    """The version of the envelope that begins so, None if none does."""
    start = bytes(memoryview(front)[: len(registry.MAGIC) + 1])
    return start[-1] if start.startswith(registry.MAGIC) and len(start) > len(registry.MAGIC) else None


def read_outline(front: Buffer) -> Outline | None:
    """What the envelope says of itself that begins so, None if no header of version 1 is there."""
    if version_of(front) != registry.VERSION or len(front) < HEADER.size:
        return None
    _, _, mode, suite, extension_length, kid, _, number, plaintext_length = HEADER.unpack_from(front)
    end = HEADER.size + extension_length
    says = None
    if end <= len(front):
        try:
            says = decode_extensions(bytes(memoryview(front)[HEADER.size : end]), mode)
        except Unopenable:
            says = None
    return Outline(mode, suite, kid, number, plaintext_length, end, says)
