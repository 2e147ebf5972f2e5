"""Batches under announced keys: with stream positions and signatures, and with faults in them (FORMAT.md, sections 10.5
and 14).
"""

from collections.abc import Callable, Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.vectors import reference as ref
from tests.vectors.faults import SECRET, Fault, flip
from tests.vectors.openings import Opening, batch_of
from tests.vectors.record_openings import RecordOpening
from tests.vectors.record_reference import Plain, RecordSealer
from tests.vectors.reference import Sealer, lp, u

SEED = bytes(range(0x20, 0x40))
OTHER_SEED = bytes(range(0x21, 0x41))
VERIFY_KEY = Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw().hex()

NAME = {"provider": 7, "mechanism": 0, "wrapped": b""}
KNOWN = {"secret": SECRET}
CHECKING = KNOWN | {"verify_key": VERIFY_KEY}
DEMANDING = CHECKING | {"demands": ["signature", "position"]}


def position(
    lane: int = 5,
    batch: int = 9,
    record: int = 20,
    previous: bytes = bytes(range(0x60, 0x70)),
    acknowledged: int = 7,
    skipped: tuple[tuple[int, int], ...] = ((2, 2), (4, 5)),
    count: int | None = None,
) -> bytes:
    """The body of extension 0x82."""
    body = u(lane, 4) + u(batch, 8) + u(record, 8) + previous + u(acknowledged, 8)
    body += u(len(skipped) if count is None else count, 2)
    return body + b"".join(u(first, 8) + u(last, 8) for first, last in skipped)


POSITION = position()
FIRST = position(0, 1, 0, bytes(16), 0, ())
MANY = tuple((3 * n, 3 * n + 1) for n in range(1, 65))
SIGNED: dict[str, Any] = NAME | {"signing": SEED, "position": POSITION}
ONE = [Plain(b"k", b"v")]


def batch(**changes: Any) -> Sealer:
    return Sealer(**{"client": batch_of(1)} | SIGNED | changes)


def records(**changes: Any) -> RecordSealer:
    return RecordSealer(**{"records": ONE} | SIGNED | changes)


def openings(make: Callable[..., Any], opening: Callable[..., Any]) -> Iterator[Any]:
    yield opening("signed, with a position", make(), DEMANDING)
    yield opening("signed, no position", make(position=None), CHECKING | {"demands": ["signature"]})
    yield opening("position, not signed", make(signing=None), KNOWN | {"demands": ["position"]})
    yield opening("position, not signed, nothing demanded", make(signing=None), KNOWN)
    yield opening("signed, nothing demanded", make(), CHECKING)
    yield opening("a lane's first", make(position=FIRST), DEMANDING)
    yield opening("64 skipped ranges", make(position=position(batch=200, record=300, skipped=MANY)), DEMANDING)


def both(make: Callable[..., Any], at_82: int) -> Iterator[Fault]:
    """Faults alike in all modes. Extension 0x82 begins at `at_82` in the envelope."""
    length, malformed = "length", "extensions malformed"
    yield Fault("no signature", "no signature", make(signing=None), DEMANDING)
    yield Fault("no position", "no stream position", make(position=None), DEMANDING)
    yield Fault("neither", "no stream position", make(position=None, signing=None), DEMANDING)
    yield Fault("signed by another", "signature", make(signing=OTHER_SEED), DEMANDING)
    yield Fault("signed by another, nothing demanded", "signature", make(signing=OTHER_SEED), CHECKING)
    yield Fault("nothing to check with", "signature can't be checked", make(), KNOWN)
    for name, told in {
        "realm": {"realm": "demo2"},
        "topic": {"topic": "orders2"},
        "partition": {"partition": 4},
        "border between realm and topic": {"realm": "demoo", "topic": "rders"},
        "key part": {"key_part": b"\x02"},
    }.items():
        yield Fault(f"signed for another {name}", "signature", make(signed_as=told), DEMANDING)
    for at in range(64):
        yield Fault(f"signature, byte {at}", "signature", make(trailer=flip(at, 0x10)), DEMANDING)
    yield Fault("signature all zero", "signature", make(trailer=lambda t: bytes(64)), DEMANDING)
    for size in (0, 1, 63, 65, 128):
        yield Fault(f"trailer of {size} bytes", length, make(trailer=lambda t, n=size: (t * 2)[:n]), DEMANDING)
    yield Fault("a trailer that no extension speaks of", length, make(signing=None, trailer=lambda t: bytes(64)), KNOWN)
    for suite in (0, 2, 255):
        yield Fault(
            f"signature suite {suite}", "signature suite", make(signature_says=bytes([suite, 0, 64])), DEMANDING
        )
    for says in (b"\x01\x00\x3f", b"\x01\x00\x00", b"\x01\xff\xff", b"\x01\x00", b"", b"\x01\x00\x40\x00"):
        yield Fault(f"0x83 of {says.hex() or 'nothing'}", malformed, make(signature_says=says), DEMANDING)
    for name, body in positions():
        yield Fault(f"position, {name}", malformed, make(position=body), DEMANDING)
    yield Fault("0x82 behind 0x83", "extensions out of order", make(extensions=swapped), DEMANDING)
    yield Fault("0x82 twice", "extensions out of order", make(extensions=twice), DEMANDING)
    broken = "commitment" if make is batch else "tag"
    for at, name in ((6, "lane"), (38, "previous"), (46, "acknowledged")):
        yield Fault(f"{name} changed on the way", broken, make(envelope=flip(at_82 + at)), DEMANDING)
    yield Fault("0x82 taken away", broken, make(envelope=lambda e: cut(e, at_82, 3 + len(POSITION))), DEMANDING)
    yield Fault(
        "0x83 taken away with the trailer",
        broken,
        make(envelope=lambda e: cut(e[:-64], at_82 + 3 + len(POSITION), 6)),
        DEMANDING,
    )
    unknown = "unknown critical extension"
    known = {"provider": 1, "mechanism": 1, "wrapped": None}
    yield Fault("position under another provider's key", unknown, make(signing=None, **known), {})
    yield Fault("signature under another provider's key", unknown, make(position=None, **known), {})


def positions() -> Iterator[tuple[str, bytes]]:
    """Bodies that no writer comes to."""
    for size in (0, 45, 46, len(POSITION) - 1):
        yield f"{size} bytes", POSITION[:size]
    yield "a byte too many", POSITION + b"\x00"
    yield "a range more than counted", position(count=1)
    yield "a range less than counted", position(count=3)
    yield "batch 0", position(batch=0, acknowledged=0, skipped=())
    yield "batch 2^63", position(batch=2**63, record=2**63)
    yield "fewer records than batches", position(record=7)
    yield "a first with records before it", position(0, 1, 1, bytes(16), 0, ())
    yield "a first with one before it", position(0, 1, 0, bytes(15) + b"\x01", 0, ())
    yield "itself acknowledged", position(acknowledged=9)
    for name, skipped in {
        "0": ((0, 2),),
        "itself": ((4, 9),),
        "backwards": ((5, 4),),
        "descending": ((4, 5), (2, 2)),
        "overlapping": ((2, 4), (4, 5)),
        "without a hole": ((2, 3), (4, 5)),
    }.items():
        yield f"skipped {name}", position(skipped=skipped)
    yield "65 ranges", position(batch=900, record=900, skipped=(*MANY, (500, 500)))


def cut(envelope: bytes, at: int, size: int) -> bytes:
    """Without these bytes of the extensions."""
    length = int.from_bytes(envelope[6:8], "big") - size
    return envelope[:6] + u(length, 2) + envelope[8:at] + envelope[at + size :]


def split(extensions: bytes) -> list[bytes]:
    out = []
    while extensions:
        size = 3 + int.from_bytes(extensions[1:3], "big")
        out.append(extensions[:size])
        extensions = extensions[size:]
    return out


def swapped(extensions: bytes) -> bytes:
    first, second, third, *rest = split(extensions)
    return b"".join([first, third, second, *rest])


def twice(extensions: bytes) -> bytes:
    first, second, *rest = split(extensions)
    return b"".join([first, second, second, *rest])


def of_batches() -> Iterator[Fault]:
    """Batch mode alone."""
    yield Fault("ciphertext changed", "tag", batch(ciphertext=flip(3)), DEMANDING)
    yield Fault("flags under a signature", "unknown flag", batch(flags=2), DEMANDING)
    for name, codec in {"zstd": ref.zstd_two_part, "gzip": ref.gzip_stored}.items():
        sealer = batch(client=batch_of(20), codec=codec, trailer=flip(0))
        yield Fault(f"signature, {name}", "signature", sealer, DEMANDING)


def of_records() -> Iterator[Fault]:
    """Record mode alone."""
    three = RecordSealer().records
    for bent in range(3):
        sealer = records(records=three, bent=bent, trailer=flip(9))
        yield Fault(f"signature of record {bent} of three", "signature", sealer, DEMANDING)
    yield Fault("signature without the key", "signature", records(signed_as={"key_part": b""}), DEMANDING)
    yield Fault(
        "signature of a null key",
        "signature",
        records(records=[Plain(None, b"v")], signed_as={"key_part": b"\x01"}),
        DEMANDING,
    )
    yield Fault(
        "a tombstone's trailer cut", "length", records(records=three, bent=1, trailer=lambda t: t[:-1]), DEMANDING
    )


def named(faults: Iterator[Fault]) -> list[Fault]:
    return [Fault(f"signed: {case.name}", case.reason, case.made, case.reader) for case in faults]


AT_82 = 56 + 3 + len(Sealer(**NAME).made_block())

OPENINGS = [
    *openings(batch, Opening),
    Opening("signed, two-part zstd", batch(client=batch_of(20), codec=ref.zstd_two_part), DEMANDING),
    Opening("signed, gzip", batch(client=batch_of(3), codec=ref.gzip_stored), DEMANDING),
    Opening(
        "signed, zstd in blocks of 50 bytes",
        batch(client=batch_of(3), codec=lambda s: (4, ref.zstd_raw(s, 50))),
        DEMANDING,
    ),
    Opening(
        "signed, origin partition, any wanted",
        batch(extensions=lambda made: made + b"\x86" + lp(u(3, 4))),
        DEMANDING | {"any_partition": True, "partition": 7},
    ),
]
RECORD_OPENINGS = [
    *openings(records, RecordOpening),
    RecordOpening("signed: a value, a tombstone, a value with headers", RecordSealer(**SIGNED), DEMANDING),
    RecordOpening("signed, keys shown", RecordSealer(**SIGNED, hiding=None), DEMANDING),
    RecordOpening("signed, null key", records(records=[Plain(None, b"v")]), DEMANDING),
]
FAULTS = named(both(batch, AT_82)) + named(of_batches())
RECORD_FAULTS = named(both(records, AT_82)) + named(of_records())
