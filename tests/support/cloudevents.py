"""CloudEvents 1.0 in JSON, as the specification's tables of attributes have it, as a JSON schema (draft 2020-12).

REQUIRED and OPTIONAL attributes, their types and constraints are those of the sections "Context Attributes" and "Type
System"; names of extensions are lower-case letters and digits ("Naming Conventions"). `data` next to `data_base64` is
forbidden by the JSON event format, 3.1.
"""

import json
from typing import Any, Final

from jsonschema import Draft202012Validator

# RFC 3339, 5.6, in UTC: what the proxy writes.
_TIME: Final = r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?Z$"
# RFC 3986, 4.1, as far as its characters go.
_URI_REFERENCE: Final = r"^[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+$"
_TEXT: Final = {"type": "string", "minLength": 1}

SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["id", "source", "specversion", "type"],
    "properties": {
        "id": _TEXT,
        "source": {**_TEXT, "pattern": _URI_REFERENCE},
        "specversion": {"const": "1.0"},
        "type": _TEXT,
        "datacontenttype": {**_TEXT, "pattern": r"^[a-z]+/[a-z.+-]+( *;.*)?$"},
        "dataschema": {**_TEXT, "pattern": r"^[a-z][a-z0-9+.-]*:"},
        "subject": _TEXT,
        "time": {"type": "string", "pattern": _TIME},
        "data": {"type": "object"},
        "data_base64": {"type": "string"},
    },
    "propertyNames": {"pattern": "^(data_base64|[a-z0-9]{1,20})$"},
    "additionalProperties": {"type": ["string", "integer", "boolean"]},
    "not": {"required": ["data", "data_base64"]},
}
_VALIDATOR: Final = Draft202012Validator(SCHEMA)

# What an event of the proxy's has besides: who is to answer for what.
_CAUSE: Final = {"principal", "client_id", "address", "operation", "correlation_id"}


def check_event(event: Any) -> dict[str, Any]:
    """Return an event that is one."""
    _VALIDATOR.validate(event)
    data = event["data"]
    assert event["type"].startswith("io.kveil.")
    assert not _CAUSE & data.keys() or {"principal", "operation"} <= data.keys()
    return dict(event)


def events_in(text: str) -> list[dict[str, Any]]:
    """Return the events that stand in a text, one a line, each of them checked."""
    return [check_event(json.loads(line)) for line in text.splitlines()]


def of_type(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return those of one type, which is named without what all have in front."""
    return [event for event in events if event["type"] == f"io.kveil.{kind}"]
