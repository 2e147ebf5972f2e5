"""Writes the Python source of a walker from one of kio's dataclasses. Used by `splice` alone.

A walker's variables: `b` the buffer, `p` the position in it, `e` its end, `s` the sections found. Runs of fields of
fixed size become one `unpack_from`, or one addition where nothing in the run is wanted.
"""

from dataclasses import fields
from enum import Enum
from struct import Struct, calcsize
from typing import Any

from kio.serial._introspect import (
    EntityField,
    EntityTupleField,
    PrimitiveTupleField,
    classify_field,
    get_field_tag,
    is_optional,
)
from kio.static.constants import EntityType

from kveil.protocol.kafka.primitives import read_uvarint

_FIXED = {
    "bool": "?",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "error_code": "h",
    "int32": "i",
    "uint32": "I",
    "timedelta_i32": "i",
    "int64": "q",
    "uint64": "Q",
    "timedelta_i64": "q",
    "datetime_i64": "q",
    "float64": "d",
    "uuid": "16s",
}
"""Kafka's types of fixed size and their `struct` codes."""


class Want(Enum):
    """What a walker shall return of a field."""

    VALUE = "value"
    """The decoded scalar: int, str, bool, a UUID's 16 bytes. None where this version lacks the field."""
    SPAN = "span"
    """(start, end) of the whole encoded field; of a struct under the key "@"; of an array's count under its name
    and "#"."""
    DATA = "data"
    """(start, start of the content, end) of a STRING, BYTES or RECORDS field."""


ELEMENT = "@"
COUNT = "#"


def write_walker(schema: Any, shape: Any, *, drop_unknown: bool) -> tuple[str, dict[str, Any]]:
    """Return the source of `walk(b, p, e, s) -> (values, end)` over a whole frame, and the constants it needs."""
    writer = _WalkerSource(drop_unknown=drop_unknown)
    writer.line("def walk(b, p, e, s):")
    writer.depth += 1
    writer.header(schema)
    result = writer.struct(schema, shape)
    writer.line(f"return {result}, p")
    return "\n".join(writer.lines), writer.constants


class _WalkerSource:
    """Lines of a walker, and the run of fixed-size fields that is still to be written."""

    def __init__(self, *, drop_unknown: bool) -> None:
        self.lines: list[str] = []
        self.depth = 0
        self.constants: dict[str, Any] = {"uvarint": read_uvarint}
        self._drop_unknown = drop_unknown
        self._names = 0
        self._run: list[tuple[str, str | None]] = []
        self._spans: list[tuple[str, int, int]] = []

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def header(self, schema: Any) -> None:
        """Step over the header in front of the payload: KIP-482's table of header versions is kio's to know."""
        if schema.__type__ is EntityType.request:
            self.line("p = 8")
            self._length("string", flexible=False)
            self.line("if n > 0: p += n")
        else:
            self.line("p = 4")
        if schema.__header_schema__.__flexible__:
            self._tagged_fields([], {})

    def struct(self, schema: Any, shape: Any) -> str:
        """Write the walk over one struct and return the expression of its result."""
        results = dict.fromkeys(shape, "None")
        start = None
        if ELEMENT in shape:
            self._flush()
            start = self._name()
            self.line(f"{start} = p")
        tagged: list[tuple[int, Any]] = []
        for field in fields(schema):
            tag = get_field_tag(field)
            if tag is not None:
                tagged.append((tag, field))
                continue
            self._field(field, schema.__flexible__, shape, results, tagged=False)
        self._flush()
        if schema.__flexible__:
            self._tagged_fields(tagged, shape, results)
        if start is not None:
            self.line(f"{start} = ({start}, p)")
            results[ELEMENT] = start
        return f"({''.join(result + ', ' for result in results.values())})"

    # Fields ------------------------------------------------------------------------------------------------------

    def _field(self, field: Any, flexible: bool, shape: Any, results: dict[str, str], *, tagged: bool) -> None:
        """Write the step over one field and note the expressions of what is wanted of it."""
        kind = classify_field(field)
        want = shape.get(field.name)
        if isinstance(kind, EntityTupleField | PrimitiveTupleField):
            self._array(field, kind, flexible, shape, results)
        elif isinstance(kind, EntityField):
            self._flush()
            self._nested(field, kind, want, results, tagged=tagged)
        elif (code := _FIXED.get(field.metadata["kafka_type"])) is not None:
            self._fixed(field.name, code, want, results)
        else:
            self._flush()
            self._variable(field, flexible, want, results)

    def _fixed(self, name: str, code: str, want: Any, results: dict[str, str]) -> None:
        variable = None
        if want is Want.VALUE:
            results[name] = variable = self._name()
        elif want is Want.SPAN:
            results[name] = span = self._name()
            start = sum(calcsize(">" + code) for code, _ in self._run)
            self._spans.append((span, start, start + calcsize(">" + code)))
        self._run.append((code, variable))

    def _flush(self) -> None:
        """Write the pending run of fixed-size fields."""
        size = sum(calcsize(">" + code) for code, _ in self._run)
        for span, start, end in self._spans:
            self.line(f"{span} = (p + {start}, p + {end})")
        wanted = [variable for _, variable in self._run if variable]
        if wanted:
            code = ">" + "".join(code if variable else f"{calcsize('>' + code)}x" for code, variable in self._run)
            unpack = f"unpack_{len(self.constants)}"
            self.constants[unpack] = Struct(code).unpack_from
            self.line(f"{', '.join(wanted)}, = {unpack}(b, p)")
        if size:
            self.line(f"p += {size}")
        self._run.clear()
        self._spans.clear()

    def _variable(self, field: Any, flexible: bool, want: Any, results: dict[str, str]) -> None:
        """Write the step over a STRING, BYTES or RECORDS field."""
        result = None if want is None else self._name()
        if result:
            self.line(f"{result} = p")
        self._length(field.metadata["kafka_type"], flexible=flexible)
        if result is None:
            self.line("if n > 0: p += n")
            return
        results[field.name] = result
        if want is Want.VALUE:
            self.line(f"{result} = None if n < 0 else str(b[p:p + n], 'utf-8')")
            self.line("if n > 0: p += n")
        else:
            data = self._name()
            self.line(f"{data} = p")
            self.line("if n > 0: p += n")
            self.line(f"{result} = ({result}, {data}, p)" if want is Want.DATA else f"{result} = ({result}, p)")

    def _length(self, kafka_type: str, *, flexible: bool) -> None:
        """Write the reading of a length or count into `n`, -1 for null."""
        if flexible:
            self.line("n = b[p] - 1")
            self.line("p += 1")
            self.line("if n > 126:")
            self.line("    n, p = uvarint(b, p - 1)")
            self.line("    n -= 1")
            return
        code, size = (">h", 2) if kafka_type == "string" else (">i", 4)
        self.constants[f"length_{size}"] = Struct(code).unpack_from
        self.line(f"n, = length_{size}(b, p)")
        self.line(f"p += {size}")
        self.line("if n < -1: raise FrameError('a negative length')")

    def _array(self, field: Any, kind: Any, flexible: bool, shape: Any, results: dict[str, str]) -> None:
        self._flush()
        span = None
        if shape.get(field.name) is Want.SPAN:
            shape = {name: want for name, want in shape.items() if name != field.name}
            results[field.name] = span = self._name()
            self.line(f"{span} = p")
        self._items(field, kind, flexible, shape, results)
        if span:
            self.line(f"{span} = ({span}, p)")

    def _items(self, field: Any, kind: Any, flexible: bool, shape: Any, results: dict[str, str]) -> None:
        if field.name + COUNT in shape:
            results[field.name + COUNT] = count = self._name()
            self.line(f"{count} = p")
            self._length("array", flexible=flexible)
            self.line(f"{count} = ({count}, p)")
        else:
            self._length("array", flexible=flexible)
        self.line("if n > e - p: raise FrameError('an array of more elements than bytes')")
        element = field.metadata.get("kafka_type")
        if element in _FIXED:
            self.line(f"if n > 0: p += n * {calcsize('>' + _FIXED[element])}")
            return
        items = self._name()
        if field.name in shape:
            self.line(f"{items} = []")
            results[field.name] = items
        self.line("for _ in range(n):")
        self.depth += 1
        if isinstance(kind, EntityTupleField):
            result = self.struct(kind.type_, shape.get(field.name, {}))
        else:
            self._length(element, flexible=flexible)
            result = "str(b[p:p + n], 'utf-8')"
        if field.name in shape:
            self.line(f"{items}.append({result})")
        if not isinstance(kind, EntityTupleField):
            self.line("if n > 0: p += n")
        self.depth -= 1

    def _nested(self, field: Any, kind: Any, want: Any, results: dict[str, str], *, tagged: bool) -> None:
        nullable = is_optional(field) and not tagged
        if nullable:  # KIP-893: a byte in front says whether the struct is there
            result = self._name()
            self.line(f"{result} = None")
            self.line("p += 1")
            self.line("if b[p - 1] < 128:")
            self.depth += 1
        expression = self.struct(kind.type_, want or {})
        if nullable:
            self.line(f"{result} = {expression}")
            self.depth -= 1
            expression = result
        if want is not None:
            results[field.name] = expression

    # Tagged fields -----------------------------------------------------------------------------------------------

    def _tagged_fields(self, tagged: list[tuple[int, Any]], shape: Any, results: dict[str, str] | None = None) -> None:
        """Write the walk over a section of tagged fields (KIP-482)."""
        results = {} if results is None else results
        wanted = [(tag, field) for tag, field in tagged if field.name in shape or self._drop_unknown]
        defaults = {}
        for _, field in wanted:
            if field.name in shape:
                defaults[field.name] = self._name()
                self.line(f"{defaults[field.name]} = None")
        self.line("if b[p] == 0: p += 1")
        self.line("else:")
        self.depth += 1
        start, kept, dropped, left, end, last = (self._name() for _ in range(6))
        self.line(f"{start} = p; {kept} = []; {dropped} = False; {last} = -1")
        self.line(f"{left}, p = uvarint(b, p)")
        self.line(f"for _ in range({left}):")
        self.depth += 1
        tag_name = self._name()
        self.line(f"{tag_name}, p = uvarint(b, p)")
        # Each tag once: of two, only one would be looked at here, and a client might take the other.
        self.line(f"if {tag_name} <= {last}: raise FrameError('tagged fields out of order')")
        self.line(f"{last} = {tag_name}")
        self.line(f"{end}, p = uvarint(b, p); {end} += p")
        self.line(f"if {end} > e: raise FrameError('a tagged field reaches beyond its message')")
        known = f"{tag_name} in {{{', '.join(str(int(tag)) for tag, _ in tagged)}}}" if tagged else "False"
        if self._drop_unknown:
            self.line(f"if {known}: {kept}.append(({tag_name}, p, {end}))")
            self.line(f"else: {dropped} = True")
        else:
            self.line(f"{kept}.append(({tag_name}, p, {end}))")
        for tag, field in wanted:
            self.line(f"if {tag_name} == {int(tag)}:")
            self.depth += 1
            self._tagged_field(field, shape, results, defaults)
            self.line(f"if p != {end}: raise FrameError('a tagged field has another length than it states')")
            self.depth -= 1
        self.line(f"p = {end}")
        self.depth -= 1
        if wanted or self._drop_unknown:
            self.line(f"s.append(Section({start}, p, {kept}, {dropped}))")
        self.depth -= 1
        results.update(defaults)

    def _tagged_field(self, field: Any, shape: Any, results: dict[str, str], defaults: dict[str, str]) -> None:
        self._field(field, True, shape, results, tagged=True)
        self._flush()
        if field.name in defaults:
            self.line(f"{defaults[field.name]} = {results[field.name]}")

    def _name(self) -> str:
        self._names += 1
        return f"v{self._names}"
