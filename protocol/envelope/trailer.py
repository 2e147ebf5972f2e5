"""What stands behind the tag: the signature of whoever sealed it (FORMAT.md, section 10.5).

Everyone who may open a batch holds its epoch key, and could seal another with it. The signature is what they can't
make. The digest of the whole envelope, by which the next batch names this one, comes from the same run over its bytes.
"""

from __future__ import annotations

from kveil.protocol.envelope.crypto import Digest
from kveil.protocol.envelope.errors import Reason, Unopenable
from kveil.protocol.envelope.header import Extensions
from kveil.protocol.envelope.key_schedule import EpochKey
from kveil.protocol.envelope.position import DIGEST_LENGTH, Slot
from kveil.protocol.kafka.primitives import Buffer


def make_trailer(*envelope: Buffer, key_part: bytes = b"", key: EpochKey, partition: int, slot: Slot | None) -> bytes:
    """The trailer of an envelope that is given up to its tag; empty where the key signs nothing.

    `key_part` is the part of the AAD that speaks of the record's key. `slot` gets the envelope's digest.
    """
    digest = Digest(*envelope)
    trailer = b"" if key.signing_key is None else key.sign(partition, digest.with_more(key_part))
    if slot is not None:
        slot.digest = digest.with_more(trailer)[:DIGEST_LENGTH]
    return trailer


def check_trailer(
    *envelope: Buffer, key_part: bytes = b"", trailer: Buffer, says: Extensions, key: EpochKey, partition: int
) -> bytes:
    """The digest of an envelope, given up to its tag. Raises Unopenable if the key demands what isn't there, or the
    signature isn't its producer's.
    """
    if key.demands_position and says.position is None:
        raise Unopenable(Reason.NO_POSITION)
    digest = Digest(*envelope)
    if says.trailer_length:
        key.check_signature(trailer, partition, digest.with_more(key_part))
    elif key.demands_signature:
        raise Unopenable(Reason.NO_SIGNATURE)
    return digest.with_more(trailer)[:DIGEST_LENGTH]
