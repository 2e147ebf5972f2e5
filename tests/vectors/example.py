"""The worked examples of FORMAT.md, sections 12 and 14, as the text that stands there."""

import hashlib
import textwrap

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.vectors.record_reference import Plain, RecordSealer
from tests.vectors.reference import Batch, Sealer, hkdf_expand, lp, place, record, u


def sealer() -> Sealer:
    client = Batch(record(0, b"k", b"hello") + record(1, None, b"world", delta=5), 2, max_timestamp=1_700_000_000_005)
    return Sealer(client=client, topic="orders", partition=3)


def record_sealer() -> RecordSealer:
    client = Batch(b"", 2, max_timestamp=1_700_000_000_005)
    records = [Plain(b"k", b"hello"), Plain(b"k", None, delta=5)]
    return RecordSealer(client=client, topic="orders", partition=3, records=records)


def text() -> str:
    """Batch mode."""
    s = sealer()
    plaintext, envelope = s.made_plaintext(), s.made_envelope()
    block = s.made_block()
    front = 56 + 3 + len(block)
    info = b"kveil/v1/batch\x00" + place(s.realm, s.topic) + u(s.partition, 4) + envelope[:front]
    made = hkdf_expand(s.secret, info, 76)
    rows = [
        ("client's batch", s.client.encode()),
        ("EK", s.secret),
        ("KEK", s.kek),
        ("kid", s.made_kid()),
        ("wrap salt", s.wrap_salt),
        ("wrapped EK", s.made_wrap()),
        ("extension 0x81", b"\x81" + lp(block)),
        ("salt", s.salt),
        ("envelope header", envelope[:56]),
        ("batch key", made[:32]),
        ("batch nonce", made[32:44]),
        ("commitment", made[44:]),
        ("plaintext", plaintext),
        ("ciphertext and tag", envelope[front + 32 :]),
        ("record 0's key", s.record_key or b""),
        ("sealed batch", s.seal()),
    ]
    return listed(rows)


def record_text() -> str:
    """Record mode."""
    s = record_sealer()
    made = s.key_and_base()
    rows = [
        ("client's batch", s.made_client()),
        ("PK", s.hiding or b""),
        ("id of PK", s.hiding_id),
        ("extensions", s.extensions_of(0)),
        ("record key", made[:32]),
        ("base12", made[32:]),
        ("wire key", s.hidden(0) or b""),
        ("record 0, envelope header", s.envelope_of(0)[:56]),
        ("record 0, plaintext", s.plaintext_of(0)),
        ("record 0, nonce", u(int.from_bytes(made[32:], "big"), 12)),
        ("record 0, ciphertext and tag", ciphertext(s, 0)),
        ("record 1, envelope header", s.envelope_of(1)[:56]),
        ("record 1, plaintext", s.plaintext_of(1)),
        ("record 1, nonce", u(int.from_bytes(made[32:], "big") ^ 1, 12)),
        ("record 1, ciphertext and tag", ciphertext(s, 1)),
        ("sealed batch", s.seal()),
    ]
    return listed(rows)


SEED = bytes(range(0x20, 0x40))


def signed_sealer() -> Sealer:
    position = u(5, 4) + u(9, 8) + u(20, 8) + bytes(range(0x60, 0x70)) + u(7, 8) + u(1, 2) + u(2, 8) + u(4, 8)
    named = {"provider": 7, "mechanism": 0, "key_version": "", "wrapped": b""}
    return Sealer(client=sealer().client, topic="orders", partition=3, position=position, signing=SEED, **named)


def signed_text() -> str:
    """A position and a signature, in batch mode."""
    s = signed_sealer()
    envelope = s.made_envelope()
    digest = hashlib.sha256(envelope[:-64]).digest()
    rows = [
        ("signing key's seed", SEED),
        ("public key", Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()),
        ("kid", s.made_kid()),
        ("extension 0x81", b"\x81" + lp(s.made_block())),
        ("extension 0x82: lane 5, batch 9, skipped 2 to 4", b"\x82" + lp(s.position or b"")),
        ("extension 0x83", b"\x83" + lp(s.signature_says)),
        ("envelope before the trailer", envelope[:-64]),
        ("its SHA-256", digest),
        ("signed", b"kveil/v1/sig\x00" + place(s.realm, s.topic) + u(s.partition, 4) + digest),
        ("signature", envelope[-64:]),
        ("previous in batch 10", hashlib.sha256(envelope).digest()[:16]),
    ]
    return listed(rows)


def ciphertext(sealer: RecordSealer, i: int) -> bytes:
    return sealer.envelope_of(i)[56 + len(sealer.extensions_of(i)) :]


def listed(rows: list[tuple[str, bytes]]) -> str:
    out = []
    for name, value in rows:
        out.append(f"{name} ({len(value)})")
        out += textwrap.wrap(value.hex(), 100, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(out) + "\n"
