"""Opened records as `kveil inspect --open` shows them. What a client wrote never reaches a terminal as it is."""

import base64
from collections.abc import Iterator
from typing import Any, Final

from kveil.protocol.kafka.errors import BatchRefused
from kveil.protocol.kafka.records import read_headers
from kveil.proxy.cli.scanning import when
from kveil.proxy.inspection.opening import Opened
from kveil.proxy.migrate.records import CopiedRecord

CONTENT_SHOWN: Final = 200
"""Characters of a key, value or header in the table. JSON has all."""


def opened_as_json(opened: Opened | None, limit: int) -> dict[str, Any]:
    """What was opened, for machines. Empty where nothing was to be."""
    if opened is None:
        return {}
    if opened.problem is not None:
        return {"opened": None, "unopened": opened.problem}
    shown = [
        {
            "offset": offset,
            "timestamp": record.timestamp,
            "key": _content(record.key),
            "value": _content(record.value),
            "headers": [[_content(name), _content(value)] for name, value in _headers(record)],
        }
        for offset, record in opened.records[:limit]
    ]
    return {"opened": shown, "more_records": len(opened.records) - len(shown)}


def opened_lines(opened: Opened | None, limit: int) -> Iterator[str]:
    """The same for people."""
    if opened is None:
        return
    if opened.problem is not None:
        yield f"    not opened: {_printable(opened.problem)}"
    for offset, record in opened.records[:limit]:
        headers = "".join(f"  {_shown(name)}: {_shown(value)}" for name, value in _headers(record))
        headers = f"  headers{headers}" if headers else ""
        key, value = _shown(record.key), _shown(record.value)
        yield f"    {offset}  {when(record.timestamp)}  key {key}  value {value}{headers}"
    if len(opened.records) > limit:
        yield f"    and {len(opened.records) - limit} records more: a higher --limit shows them"


def _headers(record: CopiedRecord) -> list[tuple[bytes, bytes | None]]:
    try:
        return [(name, value) for name, value, _ in read_headers(record.headers)[0]]
    except BatchRefused:
        return []


def _content(content: bytes | None) -> str | dict[str, str] | None:
    """As text, if it is; `json` escapes what a terminal would obey."""
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}


def _shown(content: bytes | None) -> str:
    """Quoted, with escapes for all that isn't printable: control characters, and what turns the writing direction."""
    if content is None:
        return "null"
    head = content[: 4 * CONTENT_SHOWN]
    try:
        quoted = repr(content.decode()[:CONTENT_SHOWN])
        rest = len(content.decode()) > CONTENT_SHOWN
    except UnicodeDecodeError:
        quoted, rest = repr(head[:CONTENT_SHOWN]), len(content) > CONTENT_SHOWN
    return f"{quoted}... ({len(content)} bytes)" if rest else quoted


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
