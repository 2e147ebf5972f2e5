"""Shapes that want everything of a schema, and what a walker must find by them, told from kio's instances."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from kio.serial._introspect import EntityField, EntityTupleField, PrimitiveTupleField, classify_field, get_field_tag

from kveil.protocol.kafka.splice import Want
from tests.support.kio_instances import is_default, plain, write_entity, write_field, write_length


def everything(schema: Any, *, spans: bool) -> dict[str, Any]:
    """The shape of all fields: by value (content for bytes), or the spans of all of them."""
    shape: dict[str, Any] = {"@": Want.SPAN}
    for field in fields(schema):
        kind, tagged = classify_field(field), get_field_tag(field) is not None
        if isinstance(kind, EntityField | EntityTupleField):
            if isinstance(kind, EntityTupleField) and not tagged:
                shape[field.name + "#"] = Want.SPAN
            shape[field.name] = everything(kind.type_, spans=spans)
        elif spans:
            shape[field.name] = Want.SPAN
        elif isinstance(kind, PrimitiveTupleField):
            if field.metadata["kafka_type"] == "string":
                shape[field.name] = Want.VALUE
        else:
            is_bytes = field.metadata["kafka_type"] in ("bytes", "records")
            shape[field.name] = Want.DATA if is_bytes else Want.VALUE
    return shape


def check(frame: bytes, entity: Any, found: tuple[Any, ...], *, spans: bool) -> None:
    """Hold what a walker found of one struct by `everything` against kio's instance of it."""
    shape = everything(type(entity), spans=spans)
    assert len(found) == len(shape)
    results = dict(zip(shape, found, strict=True))
    assert frame[slice(*results["@"])] == write_entity(entity)
    flexible = type(entity).__flexible__
    for field in fields(entity):
        value, kind = getattr(entity, field.name), classify_field(field)
        tagged = get_field_tag(field) is not None
        if field.name not in results:
            continue
        got = results[field.name]
        if tagged and is_default(field, value):
            assert got is None, field.name
        elif isinstance(kind, EntityTupleField):
            if not tagged:
                count = write_length(None if value is None else len(value), flexible=flexible)
                assert frame[slice(*results[field.name + "#"])] == count, field.name
            for item, inner in zip(value or (), got, strict=True):
                check(frame, item, inner, spans=spans)
        elif isinstance(kind, EntityField):
            if value is None:
                assert got is None, field.name
            else:
                check(frame, value, got, spans=spans)
        elif spans:
            assert frame[slice(*got)] == write_field(field, value, flexible=flexible, tagged=tagged), field.name
        elif isinstance(kind, PrimitiveTupleField):
            assert got == list(value or ()), field.name
        elif shape[field.name] is Want.DATA:
            written = write_field(field, value, flexible=flexible, tagged=tagged)
            assert (frame[got[0] : got[2]], frame[got[1] : got[2]]) == (written, value or b""), field.name
        else:
            assert got == _scalar(field.metadata["kafka_type"], value), field.name


def _scalar(kafka_type: str, value: Any) -> Any:
    if value is None:
        return {"uuid": bytes(16), "string": None}.get(kafka_type, -1)
    return plain(value)


def sections_of(entity: Any) -> Iterator[Any]:
    """Every struct that carries a section of tagged fields, the entity itself included."""
    if not type(entity).__flexible__:
        return
    yield entity
    for field in fields(entity):
        value, kind = getattr(entity, field.name), classify_field(field)
        if get_field_tag(field) is not None and is_default(field, value):
            continue
        if isinstance(kind, EntityTupleField):
            for item in value or ():
                yield from sections_of(item)
        elif isinstance(kind, EntityField) and value is not None:
            yield from sections_of(value)
