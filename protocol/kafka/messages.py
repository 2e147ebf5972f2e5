"""Whole messages by kio's codec: for requests and answers that the proxy makes itself.

Never used on the way of a client's frame: `splice` says why.
"""

import datetime
import io
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, cast, get_args
from uuid import UUID

from kio.index import load_request_schema, load_response_schema
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer

from kveil.protocol.kafka.errors import FrameError
from kveil.protocol.kafka.primitives import Buffer, write_string

_NO_TAGGED_FIELDS = b"\0"


def encode_request(
    api_key: int, version: int, correlation_id: int, client_id: str | None, values: Mapping[str, Any]
) -> bytes:
    """Return a request frame without its size. `values` are named as in kio's schema, structs as mappings.

    Fields that this version doesn't have are left out; fields that are not given take their default.
    """
    schema = load_request_schema(api_key, version)
    client = b"\xff\xff" if client_id is None else write_string(client_id, compact=False)
    header = b"".join(
        number.to_bytes(size, "big", signed=True) for number, size in _numbers(api_key, version, correlation_id)
    )
    flexible = _NO_TAGGED_FIELDS if schema.__header_schema__.__flexible__ else b""
    return header + client + flexible + _encode(schema, values)


def encode_response(api_key: int, version: int, correlation_id: int, values: Mapping[str, Any]) -> bytes:
    """Return a response frame without its size. `values` as in `encode_request`."""
    schema = load_response_schema(api_key, version)
    flexible = _NO_TAGGED_FIELDS if schema.__header_schema__.__flexible__ else b""
    return correlation_id.to_bytes(4, "big", signed=True) + flexible + _encode(schema, values)


def encode_response_part(api_key: int, version: int, path: str, values: Mapping[str, Any]) -> bytes:
    """Return one struct of a response, such as one partition of an answer. `path` names the fields that lead to it."""
    schema: Any = load_response_schema(api_key, version)
    for name in path.split("."):
        schema = next(_struct_of(cast("Any", field.type)) for field in fields(schema) if field.name == name)
    return _encode(schema, values)


def decode_response(api_key: int, version: int, frame: Buffer) -> Any:
    """Return kio's dataclass of a response frame.

    :raises FrameError: kio can't read it. It reads no tagged field and no error code that it doesn't know, so this
        is for answers to the proxy's own questions only, where not to understand is to refuse.
    """
    schema = load_response_schema(api_key, version)
    data = bytes(frame)
    try:
        position = 4
        if schema.__header_schema__.__flexible__:
            if data[4] != 0:
                raise FrameError("a response header with tagged fields")
            position = 5
        value, _ = entity_reader(schema)(data, position)
    except FrameError:
        raise
    except Exception as error:  # kio's errors have no common base
        raise FrameError(f"an answer of API {api_key} can't be read: {error}") from error
    return value


def _numbers(api_key: int, version: int, correlation_id: int) -> tuple[tuple[int, int], ...]:
    return ((api_key, 2), (version, 2), (correlation_id, 4))


def _encode(schema: Any, values: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    entity_writer(schema)(buffer, _build(schema, values))
    return buffer.getvalue()


@cache
def _struct_of(field_type: Any) -> Any:
    """Return the dataclass inside a field's type, if it has one."""
    if is_dataclass(field_type):
        return field_type
    return next((found for argument in get_args(field_type) if (found := _struct_of(argument))), None)


def _build(schema: Any, values: Mapping[str, Any]) -> Any:
    arguments = {}
    for field in fields(schema):
        if field.name in values:
            arguments[field.name] = _convert(field, values[field.name])
        elif field.default is MISSING:
            arguments[field.name] = _convert(field, _ZERO.get(field.metadata.get("kafka_type", ""), ()))
    return schema(**arguments)


_ZERO: dict[str, Any] = {
    "bool": False,
    "string": "",
    "bytes": b"",
    "records": None,
    "uuid": bytes(16),
    "float64": 0.0,
    **dict.fromkeys(("int8", "int16", "int32", "int64", "uint16", "error_code", "timedelta_i32", "timedelta_i64"), 0),
}


def _convert(field: Any, value: Any) -> Any:
    struct = _struct_of(field.type)
    if isinstance(value, Mapping):
        return _build(struct, value)
    if isinstance(value, list | tuple):
        return tuple(_build(struct, item) if struct else _scalar(field, item) for item in value)
    return _scalar(field, value)


def _scalar(field: Any, value: Any) -> Any:
    match field.metadata.get("kafka_type"):
        case "error_code":
            return ErrorCode(value)
        case "timedelta_i32" | "timedelta_i64":
            return datetime.timedelta(milliseconds=value)
        case "uuid":
            return UUID(bytes=bytes(value)) if value and any(value) else None
        case _:
            return value
