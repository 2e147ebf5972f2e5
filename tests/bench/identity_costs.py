"""What identities cost by themselves, without a broker: announcements, and signatures and places of batches."""

import os

from kveil.protocol.envelope.batch import peek, seal, unseal
from kveil.protocol.envelope.crypto import SigningKey
from kveil.protocol.envelope.key_schedule import EpochKey
from kveil.protocol.envelope.lane import Lane
from kveil.protocol.envelope.position import Slot
from kveil.protocol.identity.announcement import announce
from kveil.protocol.identity.crypto import KemSuite
from kveil.protocol.identity.record import encode_record
from kveil.protocol.kafka.record_batch import HEADER_LENGTH, check_produced, read_header
from tests.bench.cases import MILLISECONDS, Case
from tests.bench.micro import microseconds, produced_batch
from tests.bench.results import Results
from tests.bench.ways import KVEIL
from tests.support.realm import Realm, announcement_of, consumes, produces

RECIPIENTS = 100
BATCHES = ((1, 100), (16, 1024), (950, 1024))
"""Records and bytes of each."""
HOW = {"a place": (False, True), "a place and a signature": (True, True)}
"""What a batch has, beside what it has with a key file: signed or not, placed or not."""


def costs_round(case: Case, results: Results) -> None:
    """Each of them."""
    announcements(case, results)
    for records, record_bytes in BATCHES:
        batch = f"a batch of {records:,} x {record_bytes:,} B"
        sealing, opening = batch_costs(records, record_bytes, signed=False, placed=False)
        results.add(case.name, f"seal {batch}", "us", KVEIL, sealing)
        results.add(case.name, f"open {batch}", "us", KVEIL, opening)
        for how, (signed, placed) in HOW.items():
            more_to_seal, more_to_open = batch_costs(records, record_bytes, signed=signed, placed=placed)
            results.add(case.name, f"seal {batch}, more for {how}", "us", KVEIL, more_to_seal - sealing)
            results.add(case.name, f"open {batch}, more for {how}", "us", KVEIL, more_to_open - opening)


def announcements(case: Case, results: Results) -> None:
    """Of one epoch key, to a hundred recipients with post-quantum keys."""
    realm = Realm(suite=KemSuite.MLKEM768_X25519)
    realm.checkpoint()
    producer = realm.node("producer", produces())
    readers = [realm.node(f"reader-{each}", consumes()) for each in range(RECIPIENTS)]
    epoch, secret = realm.epoch(producer), os.urandom(32)
    keys = [one.keys.public for one in readers]
    signed = announce(epoch, secret, keys, producer.keys)
    announced, reader = announcement_of(signed), readers[0].keys
    found = {
        f"announce to {RECIPIENTS}": lambda: announce(epoch, secret, keys, producer.keys),
        f"read what was announced to {RECIPIENTS}": lambda: announcement_of(signed),
        "open one's own of it": lambda: announced.open(reader),
    }
    for what, call in found.items():
        results.add(case.name, what, MILLISECONDS, KVEIL, microseconds(call) / 1000)
    results.add(case.name, f"announced to {RECIPIENTS}", "kB", KVEIL, sum(map(len, encode_record(signed))) / 1000)


def batch_costs(records: int, record_bytes: int, *, signed: bool, placed: bool) -> tuple[float, float]:
    """Microseconds to check and seal a batch, and to look at it and open it."""
    key = _key(signed=signed, placed=placed)
    batch = produced_batch(records, record_bytes)
    head = bytes(batch[:HEADER_LENGTH])
    slot: Slot | None = Lane(1).next(records) if placed else None

    def seal_one() -> list[bytes]:
        batch[:HEADER_LENGTH] = head
        view = memoryview(batch)
        return [bytes(each) for each in seal(view, check_produced(view), key=key, partition=0, slot=slot)]

    stored = b"".join(seal_one())

    def open_one() -> object:
        view = memoryview(bytearray(stored))
        return unseal(peek(view, read_header(view)), key=key, partition=0)

    return microseconds(seal_one), microseconds(open_one)


def _key(*, signed: bool, placed: bool) -> EpochKey:
    """An announced key, as its producer holds it."""
    realm = Realm()
    realm.checkpoint()
    producer, reader = realm.node("producer", produces()), realm.node("reader", consumes())
    signing_key = SigningKey(os.urandom(32)) if signed else None
    batch_key = None if signing_key is None else signing_key.verify_key.public
    secret = os.urandom(32)
    record = realm.announce(producer, secret, reader, batch_key=batch_key, positions=placed)
    return announcement_of(record).epoch_key(secret, signing_key=signing_key)
