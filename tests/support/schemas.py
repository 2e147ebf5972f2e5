"""One order in Avro, JSON-Schema and Protobuf, by confluent-kafka and a schema registry in the process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confluent_kafka.schema_registry import SchemaRegistryClient, header_schema_id_serializer
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass

from tests.support.clients import Record

Order = dict[str, Any]

AVRO = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "int"},
        {"name": "customer", "type": "string"},
        {"name": "notes", "type": {"type": "array", "items": "string"}},
    ],
}
JSON = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Order",
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "customer": {"type": "string"},
        "notes": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["id", "customer", "notes"],
}


def _protobuf_order() -> Any:
    """The class of the same message, made without a compiler."""
    file = FileDescriptorProto(name="order.proto", syntax="proto3")
    message = file.message_type.add(name="Order")
    one, many = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED
    text, number = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_INT32
    message.field.add(name="id", number=1, type=number, label=one)
    message.field.add(name="customer", number=2, type=text, label=one)
    message.field.add(name="notes", number=3, type=text, label=many)
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("Order"))


PROTOBUF = _protobuf_order()


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """Orders to bytes and back. The id of the schema goes before the value, or into a header."""

    write: Callable[[Any, SerializationContext], bytes]
    read: Callable[[bytes, SerializationContext], Any]
    prepare: Callable[[Order], Any] = dict
    restore: Callable[[Any], Order] = dict

    def encode(self, order: Order, topic: str, **more: Any) -> Record:
        """An order as a record."""
        headers: list[tuple[str, bytes]] = []
        context = SerializationContext(topic, MessageField.VALUE, headers)
        value = self.write(self.prepare(order), context)
        return Record(value=value, headers=tuple(headers), **more)

    def decode(self, record: Record, topic: str) -> Order:
        """The order of a record."""
        assert record.value is not None
        context = SerializationContext(topic, MessageField.VALUE, list(record.headers))
        return self.restore(self.read(record.value, context))


def codec(kind: str, registry: SchemaRegistryClient, *, in_headers: bool) -> Codec:
    """A codec by its name."""
    conf: dict[str, Any] = {"schema.id.serializer": header_schema_id_serializer} if in_headers else {}
    if kind == "avro":
        return Codec(write=AvroSerializer(registry, json.dumps(AVRO), conf=conf), read=AvroDeserializer(registry))
    if kind == "json":
        schema = json.dumps(JSON)
        return Codec(write=JSONSerializer(schema, registry, conf=conf), read=JSONDeserializer(schema, None, registry))
    return Codec(
        write=ProtobufSerializer(PROTOBUF, registry, conf={"use.deprecated.format": False} | conf),
        read=ProtobufDeserializer(PROTOBUF, {"use.deprecated.format": False}, registry),
        prepare=lambda order: ParseDict(order, PROTOBUF()),
        restore=lambda message: MessageToDict(message, preserving_proto_field_name=True),
    )
