"""The checked-in vectors: what opens, what must not, and that the generator still makes the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from kveil.protocol.envelope.batch import peek, unseal
from kveil.protocol.envelope.errors import NotSealed, Reason, Unopenable
from kveil.protocol.envelope.key_schedule import EpochKey
from kveil.protocol.envelope.wrap import unwrap_epoch_key
from kveil.protocol.kafka.record_batch import read_header
from tests.vectors import example, generate
from tests.vectors.reference import Sealer

VECTORS = Path(generate.__file__).parent
OPENS = json.loads((VECTORS / "batch-opens.json").read_text())
REFUSED = json.loads((VECTORS / "batch-refused.json").read_text())


def open_as(reader: dict[str, Any], batch: memoryview) -> bytes:
    """What a reader does with one fetched batch."""
    sealed = peek(batch, read_header(batch))
    realm, topic = reader["realm"], reader["topic"]
    if "secret" in reader:
        secret = bytes.fromhex(reader["secret"])
    else:
        secret = unwrap_epoch_key(bytes.fromhex(reader["kek"]), realm, topic, sealed.kid, sealed.block.wrapped)
    key = EpochKey(
        secret=secret,
        realm=realm,
        topic=topic,
        kid=bytes.fromhex(reader["kid"]) if "kid" in reader else sealed.kid,
        block=sealed.block,
        producer_id=bytes.fromhex(reader.get("producer_id", "")),
    )
    return b"".join(unseal(sealed, key=key, partition=reader["partition"]))


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


@pytest.mark.parametrize("name", generate.FILES)
def test_the_files_are_what_the_generator_writes(name):
    assert (VECTORS / name).read_text() == generate.written(generate.FILES[name]())


def test_there_are_enough_and_no_two_alike():
    assert len(OPENS) >= 20
    assert len(REFUSED) >= 100
    names = [vector["name"] for vector in OPENS + REFUSED]
    assert len(set(names)) == len(names)
    seen = [json.dumps((vector["reader"], vector["batch"])) for vector in OPENS + REFUSED]
    assert len(set(seen)) == len(seen)


def test_every_reason_has_a_vector():
    assert {vector["reason"] for vector in REFUSED} == {*Reason, "not sealed"}


def test_the_worked_example_is_in_the_specification():
    import kveil.protocol.envelope as package

    specification = (Path(package.__path__[0]) / "FORMAT.md").read_text()
    assert "```\n" + example.text() + "```" in specification


def test_the_worked_example_opens():
    sealer = example.sealer()
    reader = generate.reader_of(sealer)
    assert open_as(reader, memoryview(sealer.seal())) == sealer.client.encode()


def test_a_fault_is_a_difference():
    """Guards the vectors themselves: without its fault, the base of them all opens."""
    sealer = Sealer()
    assert open_as(generate.reader_of(sealer), memoryview(sealer.seal())) == sealer.client.encode()
