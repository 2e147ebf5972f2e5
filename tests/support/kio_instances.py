"""Instances of kio's schemas, and a slow encoder of them that can do what kio's can't: unknown fields and codes.

for kind in every_schema(): ...
entity = make(schema, seed=3)          # every field filled; SPARSE is null and empty wherever that is allowed
write_entity(entity, unknown=[(900, b"new")])
"""

import datetime
import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from struct import pack
from typing import Any, NamedTuple
from uuid import UUID

from kio.index import load_request_schema, load_response_schema
from kio.schema.errors import ErrorCode
from kio.schema.index import api_key_map, schema_name_map
from kio.serial import entity_reader, entity_writer
from kio.serial._introspect import (
    EntityField,
    EntityTupleField,
    PrimitiveTupleField,
    classify_field,
    get_field_tag,
    is_optional,
)
from kio.static.constants import EntityType

SPARSE = -1
"""The seed of an instance with as little in it as there can be."""

_INTEGERS = {"int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q"}
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND = datetime.timedelta(milliseconds=1)
_TEXTS = ("", "a", "orders", "größe", "日本", "x" * 127, "y" * 200)

Unknown = Sequence[tuple[int, bytes]]


class Kind(NamedTuple):
    """One schema by its place in kio's index."""

    api_key: int
    version: int
    is_request: bool

    @property
    def schema(self) -> Any:
        """Its dataclass."""
        return (load_request_schema if self.is_request else load_response_schema)(self.api_key, self.version)


def versions_of(api_key: int) -> list[int]:
    """Every version of an API that kio knows."""
    types = schema_name_map[api_key_map[api_key]]
    return sorted(version for version, kinds in types.items() if EntityType.request in kinds)


def every_schema() -> Iterator[Kind]:
    """All requests and responses of all versions."""
    for api_key in sorted(api_key_map):
        for version in versions_of(api_key):
            yield Kind(api_key, version, True)
            yield Kind(api_key, version, False)


# Making -------------------------------------------------------------------------------------------------------------


def make(schema: Any, seed: int = 0, **chosen: Any) -> Any:
    """An instance of a schema: with everything in it for seed 0, by chance for those above."""
    return _entity(schema, random.Random(seed), seed, chosen)


def _entity(schema: Any, chance: random.Random, seed: int, chosen: dict[str, Any] | None = None) -> Any:
    values = {field.name: _value(field, chance, seed) for field in fields(schema)}
    return schema(**values | (chosen or {}))


def _value(field: Any, chance: random.Random, seed: int) -> Any:
    kind, tagged = classify_field(field), get_field_tag(field) is not None
    if tagged and seed > 0 and chance.random() < 0.5 and field.default is not MISSING:
        return field.default
    is_array = isinstance(kind, EntityTupleField | PrimitiveTupleField)
    nullable = _array_is_nullable(field) if is_array else is_optional(field)
    if nullable and not tagged and (seed == SPARSE or (seed > 0 and chance.random() < 0.3)):
        return None
    if isinstance(kind, EntityField):
        return _entity(kind.type_, chance, seed)
    if not is_array:
        return _scalar(field.metadata["kafka_type"], chance, seed)
    count = 0 if seed == SPARSE else chance.randint(1, 3) if seed == 0 else chance.choice((0, 1, 2, 5))
    if isinstance(kind, EntityTupleField):
        return tuple(_entity(kind.type_, chance, seed) for _ in range(count))
    return tuple(_scalar(field.metadata["kafka_type"], chance, seed) for _ in range(count))


def _array_is_nullable(field: Any) -> bool:
    return "None" in str(field.type).rpartition("]")[2]


def _scalar(kafka_type: str, chance: random.Random, seed: int) -> Any:
    code = _INTEGERS.get(kafka_type)
    if code is not None:
        size = 8 * len(pack(">" + code, 0))
        low = 0 if code.isupper() else -(1 << size - 1)
        return 0 if seed == SPARSE else chance.randint(low, low + (1 << size) - 1)
    match kafka_type:
        case "bool":
            return chance.random() < 0.5
        case "float64":
            return chance.uniform(-1e9, 1e9)
        case "string":
            return "" if seed == SPARSE else chance.choice(_TEXTS)
        case "bytes" | "records":
            return b"" if seed == SPARSE else chance.randbytes(chance.choice((0, 1, 20, 126, 127, 300)))
        case "uuid":
            return None if seed == SPARSE else UUID(int=chance.getrandbits(128))
        case "error_code":
            return chance.choice(list(ErrorCode))
        case "timedelta_i32":
            return chance.randint(-(1 << 31), (1 << 31) - 1) * _MILLISECOND
        case "timedelta_i64":
            return chance.randint(-(1 << 40), 1 << 40) * _MILLISECOND
        case "datetime_i64":
            return _EPOCH + chance.randint(0, 1 << 41) * _MILLISECOND
    raise NotImplementedError(kafka_type)


# Writing ------------------------------------------------------------------------------------------------------------


def kio_encode(entity: Any) -> bytes:
    """What kio makes of it."""
    buffer = io.BytesIO()
    entity_writer(type(entity))(buffer, entity)
    return buffer.getvalue()


def kio_decode(schema: Any, data: bytes, position: int = 0) -> Any:
    """What kio reads, which must be all there is."""
    value, size = entity_reader(schema)(bytes(data), position)
    assert position + size == len(data), f"{schema.__name__} ends at {position + size} of {len(data)}"
    return value


def header_of(schema: Any, *, correlation_id: int = 7, client_id: str | None = "app", unknown: Unknown = ()) -> bytes:
    """The header in front of a message."""
    section = write_section(unknown) if schema.__header_schema__.__flexible__ else b""
    if schema.__type__ is EntityType.response:
        return pack(">i", correlation_id) + section
    client = b"\xff\xff" if client_id is None else pack(">h", len(client_id.encode())) + client_id.encode()
    return pack(">hhi", schema.__api_key__, schema.__version__, correlation_id) + client + section


def write_frame_of(entity: Any, unknown: Unknown = (), **header: Any) -> bytes:
    """A whole frame without its size; `unknown` stands in every section of tagged fields, the header's too."""
    return header_of(type(entity), unknown=unknown, **header) + write_entity(entity, unknown)


def decode_frame(schema: Any, frame: bytes) -> Any:
    """Kio's reading of a frame made with the usual header."""
    return kio_decode(schema, frame, len(header_of(schema)))


def write_entity(entity: Any, unknown: Unknown = ()) -> bytes:
    """One struct as Kafka writes it, with unknown tagged fields in it and in all inside."""
    plain, tagged = b"", list(unknown)
    flexible = type(entity).__flexible__
    for field in fields(entity):
        tag, value = get_field_tag(field), getattr(entity, field.name)
        if tag is None:
            plain += write_field(field, value, flexible=flexible, unknown=unknown)
        elif not is_default(field, value):
            tagged.append((int(tag), write_field(field, value, flexible=True, unknown=unknown, tagged=True)))
    return plain + (write_section(tagged) if flexible else b"")


def is_default(field: Any, value: Any) -> bool:
    """Whether a tagged field is left out for this value."""
    if field.default is not MISSING:
        return bool(value == field.default)
    kind = classify_field(field)
    if isinstance(kind, EntityField):
        return all(is_default(inner, getattr(value, inner.name)) for inner in fields(kind.type_))
    return value in (0, "", b"", (), None, False, datetime.timedelta(0), _EPOCH)


def write_field(field: Any, value: Any, *, flexible: bool, unknown: Unknown = (), tagged: bool = False) -> bytes:
    """One field."""
    kind = classify_field(field)
    if isinstance(kind, EntityField):
        if not is_optional(field) or tagged:
            return write_entity(value, unknown)
        return b"\xff" if value is None else b"\x01" + write_entity(value, unknown)
    if isinstance(kind, EntityTupleField | PrimitiveTupleField):
        if value is None:
            return write_length(None, flexible=flexible)
        length = write_length(len(value), flexible=flexible)
        if isinstance(kind, EntityTupleField):
            return length + b"".join(write_entity(item, unknown) for item in value)
        return length + b"".join(_write_scalar(field.metadata["kafka_type"], item, flexible) for item in value)
    return _write_scalar(field.metadata["kafka_type"], value, flexible)


def _write_scalar(kafka_type: str, value: Any, flexible: bool) -> bytes:
    if (code := _INTEGERS.get(kafka_type)) is not None:
        return pack(">" + code, value)
    match kafka_type:
        case "string" | "bytes" | "records":
            data = value.encode() if isinstance(value, str) else value
            size = 2 if kafka_type == "string" else 4
            return write_length(None if data is None else len(data), flexible=flexible, size=size) + (data or b"")
        case "bool" | "float64":
            return pack(">?" if kafka_type == "bool" else ">d", value)
        case "uuid":
            return bytes(16) if value is None else value.bytes
        case _:
            return pack(
                ">h" if kafka_type == "error_code" else ">i" if kafka_type.endswith("32") else ">q", plain(value)
            )


def plain(value: Any) -> Any:
    """A scalar as a number or a text, as the wire has it."""
    if isinstance(value, datetime.timedelta):
        return round(value / _MILLISECOND)
    if isinstance(value, datetime.datetime):
        return round((value - _EPOCH) / _MILLISECOND)
    if isinstance(value, UUID):
        return value.bytes
    return int(value) if isinstance(value, ErrorCode) else -1 if value is None else value


def write_length(length: int | None, *, flexible: bool, size: int = 4) -> bytes:
    """The length or count in front of something; None for null."""
    if flexible:
        return _uvarint(0 if length is None else length + 1)
    return (-1 if length is None else length).to_bytes(size, "big", signed=True)


def write_section(tagged: Unknown) -> bytes:
    """A section of tagged fields."""
    return _uvarint(len(tagged)) + b"".join(_uvarint(tag) + _uvarint(len(data)) + data for tag, data in sorted(tagged))


def _uvarint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes((value & 127 | 128,))
        value >>= 7
    return out + bytes((value,))
