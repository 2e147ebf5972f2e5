"""The worked example of FORMAT.md, section 12, as the text that stands there."""

import textwrap

from tests.vectors.reference import Batch, Sealer, hkdf_expand, lp, place, record, u


def sealer() -> Sealer:
    client = Batch(record(0, b"k", b"hello") + record(1, None, b"world", delta=5), 2, max_timestamp=1_700_000_000_005)
    return Sealer(client=client, topic="orders", partition=3)


def text() -> str:
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
    out = []
    for name, value in rows:
        out.append(f"{name} ({len(value)})")
        out += textwrap.wrap(value.hex(), 100, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(out) + "\n"
