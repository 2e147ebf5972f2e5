"""Walkers against kio's own codec as the oracle: all requests and responses, all versions."""

import random
import time
from contextlib import suppress
from dataclasses import fields, is_dataclass
from struct import pack

import pytest
from kio.schema.index import api_key_map

from kveil.protocol.kafka.errors import FrameError
from kveil.protocol.kafka.splice import FrozenShape, Want, request_walker, response_walker, splice
from tests.support.kio_instances import (
    SPARSE,
    Kind,
    decode_frame,
    every_schema,
    header_of,
    kio_encode,
    make,
    versions_of,
    write_entity,
    write_frame_of,
    write_section,
)
from tests.support.walker_oracle import check, everything, sections_of

NOTHING = FrozenShape({})
KINDS = list(every_schema())
APIS = sorted(api_key_map)
SEEDS = (SPARSE, 0, 1, 2)
UNKNOWN = [(900, b"from a newer peer"), (901, b""), (70_000, b"n" * 200)]


def kinds_of(api_key):
    return [kind for kind in KINDS if kind.api_key == api_key]


def walker_of(kind, shape, **options):
    return (request_walker if kind.is_request else response_walker)(kind.api_key, kind.version, shape, **options)


def test_all_schemas_are_looked_at():
    assert len(KINDS) == 604
    assert all(write_entity(entity) == kio_encode(entity) for entity in (make(kind.schema, 1) for kind in KINDS))


@pytest.mark.parametrize("api_key", APIS, ids=api_key_map.get)
class TestEveryVersion:
    def test_ends_where_the_message_ends(self, api_key):
        for kind in kinds_of(api_key):
            for seed in SEEDS:
                frame = write_frame_of(make(kind.schema, seed))
                assert walker_of(kind, NOTHING)(frame).values == ()
                if kind.is_request:
                    with pytest.raises(FrameError, match="ends at byte"):
                        walker_of(kind, NOTHING)(frame + b"\0")
                else:
                    _, sections = walker_of(kind, NOTHING)(frame + b"\0")
                    assert b"".join(splice(frame + b"\0", [], sections)) == frame + b"\0"

    @pytest.mark.parametrize("spans", [False, True], ids=["values", "spans"])
    def test_finds_what_kio_decodes(self, api_key, spans):
        for kind in kinds_of(api_key):
            shape = FrozenShape(everything(kind.schema, spans=spans))
            for seed in SEEDS:
                entity = make(kind.schema, seed)
                frame = write_frame_of(entity)
                assert decode_frame(kind.schema, frame) == entity
                check(frame, entity, walker_of(kind, shape)(memoryview(frame)).values, spans=spans)

    def test_splicing_nothing_gives_the_same_bytes(self, api_key):
        for kind in kinds_of(api_key):
            shape = FrozenShape(everything(kind.schema, spans=True))
            options = [{}] if kind.is_request else [{}, {"drop_unknown": True}]
            for seed in SEEDS:
                frame = write_frame_of(make(kind.schema, seed))
                for option in options:
                    _, sections = walker_of(kind, shape, **option)(frame)
                    assert b"".join(splice(frame, [], sections)) == frame

    def test_unknown_tagged_fields_stay(self, api_key):
        for kind in kinds_of(api_key):
            shape = FrozenShape(everything(kind.schema, spans=True))
            for seed in SEEDS:
                frame = write_frame_of(make(kind.schema, seed), unknown=UNKNOWN)
                for shapes in (NOTHING, shape):
                    _, sections = walker_of(kind, shapes)(frame)
                    assert b"".join(splice(frame, [], sections)) == frame

    def test_unknown_tagged_fields_are_dropped_where_addresses_travel(self, api_key):
        for kind in kinds_of(api_key):
            if kind.is_request:
                continue
            shape = FrozenShape(everything(kind.schema, spans=True))
            for seed in SEEDS:
                entity = make(kind.schema, seed)
                frame = write_frame_of(entity, unknown=UNKNOWN)
                for shapes in (NOTHING, shape):
                    _, sections = walker_of(kind, shapes, drop_unknown=True)(frame)
                    assert b"".join(splice(frame, [], sections)) == write_frame_of(entity)
                    header = kind.schema.__header_schema__.__flexible__
                    expected = len(list(sections_of(entity))) + header
                    assert sum(section.dropped for section in sections) == expected

    def test_a_missing_end_is_noticed(self, api_key):
        for kind in kinds_of(api_key):
            frame = write_frame_of(make(kind.schema, 0))
            for cut in {len(frame) - 1, len(frame) // 2, len(frame) // 3, 9, 4, 3, 0} - {len(frame)}:
                if 0 <= cut < len(frame):
                    with pytest.raises(FrameError):
                        walker_of(kind, NOTHING)(frame[:cut])

    def test_damage_gives_a_frame_error_or_nothing(self, api_key):
        chance = random.Random(api_key)
        for kind in kinds_of(api_key):
            shape = FrozenShape(everything(kind.schema, spans=False))
            whole = write_frame_of(make(kind.schema, 0))
            for _ in range(10):
                frame = bytearray(whole)
                for _ in range(chance.choice((1, 1, 3))):
                    frame[chance.randrange(len(frame))] = chance.choice((0, 1, 127, 128, 255))
                with suppress(FrameError):
                    walker_of(kind, shape)(frame)


SAMPLES = [Kind(key, versions_of(key)[at], request) for key in (0, 1, 3, 10, 18, 32, 78) for at in (0, -1)
           for request in (True, False)]  # fmt: skip


@pytest.mark.parametrize("kind", SAMPLES, ids=str)
def test_cut_at_every_byte(kind):
    shape = FrozenShape(everything(kind.schema, spans=False))
    frame = min((write_frame_of(make(kind.schema, seed)) for seed in (0, 4, 5, 6)), key=len)
    for cut in range(len(frame)):
        with pytest.raises(FrameError):
            walker_of(kind, shape)(frame[:cut])


@pytest.mark.parametrize("api_key", [0, 1, 3, 10, 22, 78])
def test_unknown_error_codes_pass(api_key):
    kind = Kind(api_key, versions_of(api_key)[-1], is_request=False)

    def unknown_codes(entity):
        values = {}
        for field in fields(entity):
            value = getattr(entity, field.name)
            if field.metadata.get("kafka_type") == "error_code":
                value = 9_999
            elif isinstance(value, tuple) and value and is_dataclass(value[0]):
                value = tuple(map(unknown_codes, value))
            values[field.name] = value
        return type(entity)(**values)

    entity = unknown_codes(make(kind.schema, 0))
    frame = write_frame_of(entity)
    assert pack(">h", 9_999) in frame
    check(frame, entity, walker_of(kind, FrozenShape(everything(kind.schema, spans=False)))(frame).values, spans=False)
    with pytest.raises(ValueError, match="9999"):
        decode_frame(kind.schema, frame)


class TestAbsurdNumbers:
    """Each of these must end at once: a count costs its sender nothing."""

    METADATA = FrozenShape({"topics": {"name": Want.VALUE}})

    @pytest.fixture(autouse=True)
    def quickly(self):
        began = time.monotonic()
        yield
        assert time.monotonic() - began < 1

    def metadata(self, version, content):
        schema = Kind(3, version, is_request=True).schema
        return request_walker(3, version, self.METADATA), header_of(schema) + content

    @pytest.mark.parametrize("count", [2**31 - 1, 1_000_000, 3, -2, -(2**31)])
    def test_array(self, count):
        walker, frame = self.metadata(0, pack(">i", count))
        with pytest.raises(FrameError):
            walker(frame)

    @pytest.mark.parametrize("count", [b"\xff\xff\xff\xff\x7f", b"\xff\xff\xff\xff\x0f", b"\x90\x4e", b"\xff" * 6])
    def test_compact_array(self, count):
        walker, frame = self.metadata(12, count)
        with pytest.raises(FrameError):
            walker(frame)

    def test_array_of_fixed_size(self):
        schema = Kind(0, 3, is_request=False).schema
        walker = response_walker(2, 1, NOTHING)
        with pytest.raises(FrameError):
            walker(header_of(schema) + pack(">i", 2**31 - 1))

    @pytest.mark.parametrize("length", [-2, -(2**15), 2**15 - 1])
    def test_string(self, length):
        walker, frame = self.metadata(0, pack(">ih", 1, length))
        with pytest.raises(FrameError):
            walker(frame)

    @pytest.mark.parametrize(
        "section",
        [
            b"\xff\xff\xff\xff\x7f",  # so many fields
            b"\x01\x05\xff\xff\xff\xff\x7f",  # of that length
            b"\x01\x05\x02x",
            b"\x02\x05\x01x",
            b"\xff" * 6,
        ],
    )
    def test_tagged_fields(self, section):
        walker, frame = self.metadata(12, b"\x01\x00\x00" + section)
        with pytest.raises(FrameError):
            walker(frame)

    def test_text_that_is_none(self):
        walker, frame = self.metadata(0, pack(">ih", 1, 1) + b"\xff")
        with pytest.raises(FrameError):
            walker(frame)


class TestTaggedFields:
    """Sections that no honest peer writes."""

    RESPONSE = FrozenShape({"node_endpoints": {"node_id": Want.VALUE, "host": Want.DATA, "port": Want.SPAN}})
    SCHEMA = Kind(0, 12, is_request=False).schema

    def frame(self, section):
        return header_of(self.SCHEMA) + b"\x01" + pack(">i", 0) + section

    def test_a_known_field_of_another_length(self):
        frame = self.frame(write_section([(0, b"\x01x")]))
        with pytest.raises(FrameError, match="length"):
            response_walker(0, 12, self.RESPONSE)(frame)

    @pytest.mark.parametrize("drop", [False, True])
    def test_twice_the_same_or_out_of_order(self, drop):
        empty = b"\x01"
        walker = response_walker(0, 12, self.RESPONSE, drop_unknown=drop)
        walker(self.frame(b"\x02\x00\x01" + empty + b"\x05\x01x"))
        for section in (b"\x02\x00\x01" + empty + b"\x00\x01" + empty, b"\x02\x05\x01x\x00\x01" + empty):
            with pytest.raises(FrameError, match="order"):
                walker(self.frame(section))
