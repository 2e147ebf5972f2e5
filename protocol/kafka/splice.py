"""Finding a few fields in a Kafka message and replacing them, while everything else stays the same bytes.

A proxy needs little of a message: record sets, host names, topic ids. Decoding all of it would cost more than the
sealing, and would lose what a newer peer put in. So a *walker* is compiled for a schema and a *shape*, the fields
wanted of it. It steps over the rest by length. `splice` then joins the untouched slices with the new pieces.

The schemas are kio's dataclasses. kio's own decoder is the walkers' oracle in the tests.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from struct import error as StructError  # noqa: N812 - it is an exception class under a lower-case name
from typing import Any, NamedTuple

from kio.index import load_request_schema, load_response_schema

from kveil.protocol.kafka.errors import FrameError
from kveil.protocol.kafka.primitives import Buffer, write_tagged_fields
from kveil.protocol.kafka.walker_source import Want, write_walker

__all__ = ["Edit", "FrozenShape", "Section", "Walked", "Walker", "Want", "request_walker", "response_walker", "splice"]


Shape = Mapping[str, "Want | Shape"]
"""The wanted fields of a struct by kio's names, in the order of the result. Arrays of structs nest a shape."""


class Section(NamedTuple):
    """A section of tagged fields that `splice` may have to write anew, since it states its own sizes."""

    start: int
    end: int
    fields: list[tuple[int, int, int]]
    """(tag, start, end of the content) of the fields to keep, ascending."""
    dropped: bool
    """Whether a field that the schema doesn't know was left out of `fields`."""


class Edit(NamedTuple):
    """New content for the bytes from `start` to `end`."""

    start: int
    end: int
    pieces: Sequence[Buffer]


class Walked(NamedTuple):
    """What a walker found."""

    values: Any
    """A tuple in the order of the shape; a list of such tuples for each array of structs."""
    sections: list[Section]


class Walker:
    """A compiled walk over one message of one API and version."""

    def __init__(self, walk: Callable[..., tuple[Any, int]], *, flexible: bool, is_request: bool) -> None:
        self._walk = walk
        self._is_request = is_request
        self.flexible = flexible
        """Whether the version has compact and tagged fields (KIP-482)."""

    def __call__(self, frame: Buffer) -> Walked:
        """Walk a whole frame, header included, its size excluded.

        A request that goes on behind its end is refused. A response may: clients read no further, and librdkafka's
        mock cluster adds a byte to its flexible ones.

        :raises FrameError: it doesn't have the schema's form.
        """
        sections: list[Section] = []
        try:
            values, end = self._walk(frame, 0, len(frame), sections)
        except (IndexError, StructError, UnicodeDecodeError) as error:
            raise FrameError(f"a message does not have the form of its schema: {error}") from error
        if end > len(frame) or (self._is_request and end < len(frame)):
            raise FrameError(f"a message ends at byte {end} of {len(frame)}")
        return Walked(values, sections)


@cache
def request_walker(api_key: int, version: int, shape: "FrozenShape") -> Walker:
    """Return the walker over a request; unknown tagged fields stay."""
    return _compile(load_request_schema(api_key, version), shape, drop_unknown=False, is_request=True)


@cache
def response_walker(api_key: int, version: int, shape: "FrozenShape", *, drop_unknown: bool = False) -> Walker:
    """Return the walker over a response.

    With `drop_unknown`, tagged fields that the schema doesn't know are dropped: in an answer that carries addresses
    a newer field may hold one more, which would lead clients around the proxy.
    """
    return _compile(load_response_schema(api_key, version), shape, drop_unknown=drop_unknown, is_request=False)


class FrozenShape:
    """A shape as a constant: hashable by identity, so that walkers are cached by it."""

    def __init__(self, shape: Shape) -> None:
        self.fields = shape


def _compile(schema: Any, shape: FrozenShape, *, drop_unknown: bool, is_request: bool) -> Walker:
    source, constants = write_walker(schema, shape.fields, drop_unknown=drop_unknown)
    namespace: dict[str, Any] = {**constants, "FrameError": FrameError, "Section": Section}
    exec(compile(source, f"<walker of {schema.__module__}>", "exec"), namespace)  # noqa: S102 - source is ours
    return Walker(namespace["walk"], flexible=schema.__flexible__, is_request=is_request)


def splice(buffer: Buffer, edits: Iterable[Edit], sections: Iterable[Section] = ()) -> list[Buffer]:
    """Return `buffer` with the edits in place, as pieces to be written one after the other.

    Untouched slices are copied, since the buffer may be reused while the pieces wait to be sent.
    """
    pending = list(edits)
    for section in sections:  # inner sections come before the outer ones that hold them
        inner = [edit for edit in pending if section.start <= edit.start and edit.end <= section.end]
        if not inner and not section.dropped:
            continue
        contents = [(tag, b"".join(_join(buffer, start, end, inner))) for tag, start, end in section.fields]
        pending = [edit for edit in pending if edit not in inner]
        pending.append(Edit(section.start, section.end, [write_tagged_fields(contents)]))
    return _join(buffer, 0, len(buffer), pending)


def _join(buffer: Buffer, start: int, end: int, edits: Iterable[Edit]) -> list[Buffer]:
    """Return the bytes from `start` to `end` with those edits in place that lie between them."""
    pieces: list[Buffer] = []
    position = start
    for edit in sorted([edit for edit in edits if start <= edit.start and edit.end <= end], key=_by_start):
        if edit.start < position:
            raise ValueError(f"an edit at {edit.start} overlaps the one that ends at {position}")
        if edit.start > position:
            pieces.append(bytes(buffer[position : edit.start]))
        pieces.extend(edit.pieces)
        position = edit.end
    if position < end:
        pieces.append(bytes(buffer[position:end]))
    return pieces


def _by_start(edit: Edit) -> int:
    return edit.start
