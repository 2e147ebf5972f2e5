"""What can be wrong with bytes that claim to be Kafka's, one class for each way to react.

    ProtocolError                      root; never raised itself
    |-- FrameError                     bytes that can't be decoded: the connection is closed
    |-- UnsupportedVersion    code 35  a version of an API that is not spoken here
    `-- BatchRefused                   one partition's batch is answered with an error, the rest goes on
        |-- CorruptBatch      code 2   CORRUPT_MESSAGE: bytes do not hold together; a client may send again
        |   `-- DecompressedTooLarge   they may well, but there are too many of them
        |-- InvalidRecord     code 87  INVALID_RECORD: whole, but against the rules; sending again can't help
        `-- BatchTooLarge     code 10  MESSAGE_TOO_LARGE: the client may split the batch

`protocol/envelope/errors.py` continues the tree with what can be wrong with an envelope. Codes are Kafka's
own (the error table of its protocol guide).
"""

from __future__ import annotations

from typing import ClassVar


class ProtocolError(Exception):
    """Root of everything that `kveil.protocol` raises about bytes it was given."""


class FrameError(ProtocolError):
    """Bytes that can't be decoded at all. Nothing can be answered safely, so the connection closes."""


class UnsupportedVersion(ProtocolError):
    """A request version that is not served here."""

    code: ClassVar[int] = 35


class BatchRefused(ProtocolError):
    """One partition's batch is refused; `code` is what its client is told."""

    code: ClassVar[int]


class CorruptBatch(BatchRefused):
    """Length, checksum or compression of a batch do not hold together."""

    code: ClassVar[int] = 2


class DecompressedTooLarge(CorruptBatch):
    """Decompressed data above the limit that its reader has set."""


class InvalidRecord(BatchRefused):
    """A whole batch that breaks a rule of the record format."""

    code: ClassVar[int] = 87


class BatchTooLarge(BatchRefused):
    """A batch beyond a size limit; a client that can split it may try again."""

    code: ClassVar[int] = 10
