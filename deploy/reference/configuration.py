"""docs/reference/configuration.md: every key with its type, default, variable and meaning, off the models."""

import ast
import inspect
import textwrap
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel

from kveil.proxy.config import ForwardProxy, HostPort, KeyName, PlainText, SecretRef, Skip
from kveil.proxy.config.models import Settings
from kveil.proxy.config.paths import SYSTEM_KEY_PATH
from kveil.proxy.config.schema import ConfigKey, config_keys, model_at

_TOP: Final = """\
# Configuration, every key

This page is made from the program by `make docs`. [configuration.md](../configuration.md) tells how the file, the
environment and the flags go together, and explains by example; [commands.md](commands.md) has the commands.

`topics[].match` is the key `match` of an entry of the list `topics`. A variable sets one entry by its number, here the
first one, 0. What is required is so only where the section around it is used. A *reference* names a secret, which the
file itself never holds: `file:PATH` or `env:NAME`.

| key | type | default | meaning | environment variable |
|---|---|---|---|---|
"""

_SCALARS: Final[Mapping[object, str]] = {
    bool: "`true` or `false`",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "file",
    HostPort: "`host:port`",
    SecretRef: "reference",
    PlainText: "text",
    ForwardProxy: "`http://host:port` or `socks5://host:port`",
    KeyName: "key, `name` or `provider:name`",
    Skip: "`topic/partition/from-to`",
}

_DEFAULTS: Final = {"keys.path": str(SYSTEM_KEY_PATH), "upstream.sasl": "passthrough"}
"""Those that depend on who asks, and those that are written by another word than null."""


class Undescribed(Exception):
    """A key has no docstring."""


def configuration_page() -> str:
    """The whole page.

    :raises Undescribed: a key's meaning is missing.
    """
    return _TOP + "".join(f"{_row(key)}\n" for key in config_keys())


def _row(key: ConfigKey) -> str:
    *above, name = (part.removesuffix("[]") for part in key.path.split("."))
    model = model_at(tuple(above)) or Settings
    field = model.model_fields[name]
    meaning = meanings(model).get(name)
    if not meaning:
        msg = f"{key.path}: write a docstring below {name} in class {model.__name__}"
        raise Undescribed(msg)
    cells = (f"`{key.path}`", type_text(field.annotation, field.metadata), _default(key), meaning, f"`{key.variable}`")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


@cache
def meanings(model: type[BaseModel]) -> Mapping[str, str]:
    """The docstring below each of a model's fields, on one line. Those of its bases are there too."""
    (found,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(found, ast.ClassDef)
    pairs = zip(found.body, found.body[1:], strict=False)
    bases = [base for base in model.__bases__ if issubclass(base, BaseModel) and base.model_fields]
    inherited = {name: meaning for base in bases for name, meaning in meanings(base).items()}
    return inherited | {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairs
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def type_text(annotation: Any, metadata: Any = ()) -> str:
    """What may be written there, in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(parts[0], [*_inner(parts[1:]), *metadata])
    if origin in {Union, types.UnionType}:
        kinds = [type_text(one, metadata) for one in parts if one is not type(None)]
        return " or ".join(sorted(set(kinds), reverse=True))
    if origin is tuple:
        return f"list of {type_text(parts[0])}"
    if origin is dict:
        return f"map of {type_text(_bare(parts[0]))} to {type_text(_bare(parts[1]))}"
    if origin is Literal:
        return _words(map(str, parts))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _words(str(one.value) for one in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "map"
    return _SCALARS[annotation] + _bounds(metadata)


def _inner(metadata: Any) -> Iterator[Any]:
    """The bounds, also those inside of `Field`."""
    for one in metadata:
        yield from getattr(one, "metadata", [one])


def _bare(annotation: Any) -> Any:
    """A type without its bounds."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _words(words: Any) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _bounds(metadata: Any) -> str:
    found = []
    for one in metadata:
        match one:
            case Gt():
                found.append(f"more than {one.gt}")
            case Ge():
                found.append(f"at least {one.ge}")
            case Le():
                found.append(f"at most {one.le}")
    return f", {', '.join(found)}" if found else ""


def _default(key: ConfigKey) -> str:
    if key.required:
        return "required"
    return f"`{_DEFAULTS.get(key.path) or _as_yaml(key.default)}`"


def _as_yaml(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Enum():
            return str(value.value)
        case tuple():
            return f"[{', '.join(map(str, value))}]"
        case _:
            return str(value)
