"""What the broker holds, taken apart; and whether the round trip was what it has to be."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.crypto import TAG_LENGTH
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.outline import read_outline
from kveil.proxy.demo.round_trip import Record

DISK_SEARCHES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What an envelope shows to anyone, read without a key."""

    magic: bytes
    version: int
    mode: str
    suite: str
    kid: bytes
    key: KeyBlock
    records: int
    plaintext_bytes: int
    size: int
    ciphertext: bytes


def read_envelope(value: bytes | None) -> Envelope | None:
    """The envelope that a stored value is, None if it is none."""
    found = None if value is None else read_outline(value)
    if value is None or found is None or found.says is None:
        return None
    return Envelope(
        magic=registry.MAGIC,
        version=registry.VERSION,
        mode=found.mode_name,
        suite=found.suite_name,
        kid=found.kid,
        key=found.says.block,
        records=found.number,
        plaintext_bytes=found.plaintext_length,
        size=len(value),
        ciphertext=value[-(found.plaintext_length + TAG_LENGTH) :],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of it."""

    written: int
    same: int
    """Records that came back as they were written: key, value, headers, timestamp and place."""
    surplus: int
    """Records that came back and were not written there."""
    pieces: int
    """Keys, values and headers that were looked for in what is stored."""
    leaked: Sequence[bytes]
    """Those that were found there."""
    outside: int
    """Stored values that are no envelope."""

    @property
    def is_exact(self) -> bool:
        """Whether the consumer got what the application wrote, and nothing else."""
        return self.same == self.written and not self.surplus

    @property
    def is_sealed(self) -> bool:
        """Whether nothing of it can be seen at the broker."""
        return not self.leaked and not self.outside

    @property
    def is_good(self) -> bool:
        """Whether all is as it has to be."""
        return self.is_exact and self.is_sealed


def judge(
    written: Sequence[Record],
    stored: Sequence[Record],
    got: Sequence[Record],
    disk_holds: Callable[[bytes], bool] | None = None,
) -> Verdict:
    """Compare what was written, what is stored and what was read."""
    read = {record.place: record for record in got}
    same = sum(1 for record in written if read.get(record.place) == record)
    pieces = {piece for record in written for piece in record.pieces}
    return Verdict(
        written=len(written),
        same=same,
        surplus=len(got) - same,
        pieces=len(pieces),
        leaked=sorted(_leaked(pieces, stored, disk_holds)),
        outside=sum(1 for record in stored if record.value is not None and read_envelope(record.value) is None),
    )


def _leaked(
    pieces: Iterable[bytes], stored: Iterable[Record], disk_holds: Callable[[bytes], bool] | None
) -> Iterable[bytes]:
    everything = b"\0".join(piece for record in stored for piece in record.pieces)
    for piece in pieces:
        if piece in everything:
            yield piece
    # Each look reads all files, so the disk is searched for a few.
    for piece in sorted(pieces, key=len)[-DISK_SEARCHES:] if disk_holds else ():
        if disk_holds is not None and disk_holds(piece):
            yield piece
