"""The checked-in vectors: what opens, what must not, and that the generator still makes the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from kveil.protocol.envelope.batch import peek, unseal
from kveil.protocol.envelope.crypto import VerifyKey
from kveil.protocol.envelope.errors import NotSealed, OtherMode, Reason, Unopenable
from kveil.protocol.envelope.header import KeyBlock
from kveil.protocol.envelope.key_schedule import EpochKey, KeyHidingKey
from kveil.protocol.envelope.record import peek_records, unseal_records
from kveil.protocol.envelope.wrap import unwrap_epoch_key
from kveil.protocol.kafka.record_batch import read_header
from tests.vectors import example, generate, signed
from tests.vectors.record_reference import RecordSealer
from tests.vectors.reference import Sealer

VECTORS = Path(generate.__file__).parent
OPENS = json.loads((VECTORS / "batch-opens.json").read_text())
REFUSED = json.loads((VECTORS / "batch-refused.json").read_text())
RECORD_OPENS = json.loads((VECTORS / "record-opens.json").read_text())
RECORD_REFUSED = json.loads((VECTORS / "record-refused.json").read_text())


def key_of(reader: dict[str, Any], kid: bytes, block: KeyBlock) -> EpochKey:
    """The epoch key that an envelope names, as the reader comes by it."""
    realm, topic = reader["realm"], reader["topic"]
    if "secret" in reader:
        secret = bytes.fromhex(reader["secret"])
    else:
        secret = unwrap_epoch_key(bytes.fromhex(reader["kek"]), realm, topic, kid, block.wrapped)
    return EpochKey(
        secret=secret,
        realm=realm,
        topic=topic,
        kid=bytes.fromhex(reader["kid"]) if "kid" in reader else kid,
        block=block,
        producer_id=bytes.fromhex(reader.get("producer_id", "")),
        verify_key=VerifyKey(bytes.fromhex(reader["verify_key"])) if "verify_key" in reader else None,
        demands_signature="signature" in reader.get("demands", []),
        demands_position="position" in reader.get("demands", []),
    )


def open_as(reader: dict[str, Any], batch: memoryview) -> bytes:
    """What a reader does with one fetched batch."""
    sealed = peek(batch, read_header(batch))
    key = key_of(reader, sealed.kid, sealed.block)
    any_partition = reader.get("any_partition", False)
    return b"".join(unseal(sealed, key=key, partition=reader["partition"], any_partition=any_partition))


def open_records_as(reader: dict[str, Any], batch: memoryview) -> bytes:
    """The same in record mode."""
    sealed = peek_records(batch, read_header(batch))
    hiding = None
    if made := reader["hiding_key"]:
        secret = bytes.fromhex(made["secret"])
        hiding_id = bytes.fromhex(made["id"])
        hiding = KeyHidingKey(id=hiding_id, secret=secret, realm=reader["realm"], topic=reader["topic"])
    opened = unseal_records(
        sealed,
        keys={(kid, block): key_of(reader, kid, block) for kid, block in sealed.keys},
        hiding=hiding,
        partition=reader["partition"],
        any_partition=reader.get("any_partition", False),
        create_time_only=reader.get("create_time_only", False),
        extra_headers={bytes.fromhex(name) for name in reader.get("extra_headers", [])},
    )
    return b"".join(opened)


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("vector", OPENS, ids=lambda v: v["name"])
def test_opens(vector, writable):
    batch = bytes.fromhex(vector["batch"])
    opened = open_as(vector["reader"], memoryview(bytearray(batch) if writable else batch))
    assert opened.hex() == vector["opens_to"]


@pytest.mark.parametrize("vector", REFUSED, ids=lambda v: v["name"])
def test_is_refused(vector):
    with pytest.raises((NotSealed, Unopenable)) as caught:
        open_as(vector["reader"], memoryview(bytes.fromhex(vector["batch"])))
    reason = caught.value.reason if isinstance(caught.value, Unopenable) else "not sealed"
    assert reason == vector["reason"]


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("vector", RECORD_OPENS, ids=lambda v: v["name"])
def test_records_open(vector):
    opened = open_records_as(vector["reader"], memoryview(bytes.fromhex(vector["batch"])))
    assert opened.hex() == vector["opens_to"]


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("vector", RECORD_REFUSED, ids=lambda v: v["name"])
def test_records_are_refused(vector):
    with pytest.raises((NotSealed, Unopenable)) as caught:
        open_records_as(vector["reader"], memoryview(bytes.fromhex(vector["batch"])))
    reason = caught.value.reason if isinstance(caught.value, Unopenable) else "not sealed"
    assert reason == vector["reason"]


@pytest.mark.parametrize("vector", RECORD_OPENS, ids=lambda v: v["name"])
def test_no_records_open_in_batch_mode(vector):
    batch = memoryview(bytes.fromhex(vector["batch"]))
    with pytest.raises(OtherMode):
        peek(batch, read_header(batch))


@pytest.mark.parametrize("vector", OPENS, ids=lambda v: v["name"])
def test_no_batch_opens_in_record_mode(vector):
    """Broken ones behind record 0 are seen before the mode."""
    batch = memoryview(bytes.fromhex(vector["batch"]))
    with pytest.raises(Unopenable) as caught:
        peek_records(batch, read_header(batch))
    assert isinstance(caught.value, OtherMode) or caught.value.reason == "batch does not decompress"


@pytest.mark.parametrize("name", generate.FILES)
def test_the_files_are_what_the_generator_writes(name):
    assert (VECTORS / name).read_text() == generate.written(generate.FILES[name]())


@pytest.mark.parametrize(("opens", "refused"), [(OPENS, REFUSED), (RECORD_OPENS, RECORD_REFUSED)])
def test_there_are_enough_and_no_two_alike(opens, refused):
    assert len(opens) >= 20
    assert len(refused) >= 4 * len(opens)
    names = [vector["name"] for vector in opens + refused]
    assert len(set(names)) == len(names)
    seen = [json.dumps((vector["reader"], vector["batch"])) for vector in opens + refused]
    assert len(set(seen)) == len(seen)


def test_every_reason_has_a_vector():
    assert {vector["reason"] for vector in REFUSED + RECORD_REFUSED} == {*Reason, "not sealed"}


def test_the_worked_examples_are_in_the_specification():
    import kveil.protocol.envelope as package

    specification = (Path(package.__path__[0]) / "FORMAT.md").read_text()
    assert "```\n" + example.text() + "```" in specification
    assert "```\n" + example.record_text() + "```" in specification
    assert "```\n" + example.signed_text() + "```" in specification


def test_the_worked_example_of_record_mode_opens():
    sealer = example.record_sealer()
    reader = generate.record_reader_of(sealer)
    assert open_records_as(reader, memoryview(sealer.seal())) == sealer.made_client()


def test_the_worked_example_opens():
    sealer = example.sealer()
    reader = generate.reader_of(sealer)
    assert open_as(reader, memoryview(sealer.seal())) == sealer.client.encode()


def test_the_worked_example_of_a_signature_opens():
    sealer = example.signed_sealer()
    reader = generate.reader_of(sealer) | signed.DEMANDING
    assert open_as(reader, memoryview(sealer.seal())) == sealer.client.encode()


def test_a_fault_is_a_difference():
    """Guards the vectors themselves: without its fault, the base of them all opens."""
    sealer, records = Sealer(), RecordSealer()
    assert open_as(generate.reader_of(sealer), memoryview(sealer.seal())) == sealer.client.encode()
    assert open_records_as(generate.record_reader_of(records), memoryview(records.seal())) == records.made_client()
