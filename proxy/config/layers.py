"""The three layers of a configuration, laid over one another: file, environment, flags.

An environment variable is `KVEIL_` and the key's path in capitals, its parts joined by two underscores:
`KVEIL_UPSTREAM__BOOTSTRAP=a:9092,b:9092`, `KVEIL_LIMITS__DRAIN_SECONDS=5`, `KVEIL_TOPICS__0__MATCH=orders.*`.
A number is a place in a list (or a node id in `nodes`). A value that begins with `[` or `{`, or is `null`, is
read as YAML; any other is taken as it stands. An empty variable counts as not set.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from kveil.proxy.config.errors import Problem
from kveil.proxy.config.schema import is_list

PREFIX: Final = "KVEIL_"
# Names the file itself, so it is no key in the file.
CONFIG_VARIABLE: Final = "KVEIL_CONFIG"
# Kubernetes sets these in every pod beside a Service whose name begins with kveil.
_SERVICE_LINK: Final = re.compile(
    r"KVEIL_([A-Z0-9_]*_)?(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A value laid over the file's, and the flag or variable that it came from."""

    path: Path
    value: object
    origin: str
    only_if_null: bool = False
    """Whether a value that is there already stays."""


def environment(environ: Mapping[str, str]) -> Iterator[Override | Problem]:
    """What the `KVEIL_` variables say, sorted by name, so that the places of a list are filled in order."""
    for name in sorted(environ, key=_natural):
        text = environ[name]
        if not name.startswith(PREFIX) or name == CONFIG_VARIABLE or _SERVICE_LINK.fullmatch(name) or not text:
            continue
        parts = name[len(PREFIX) :].lower().split("__")
        path = tuple(int(part) if part.isascii() and part.isdecimal() else part for part in parts)
        try:
            yield Override(path=path, value=_value(text), origin=name)
        except yaml.YAMLError:
            yield Problem(path=name, text="begins like a YAML list or map, but isn't one")


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts `__10__` after `__9__`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in name.split("__")]


def _value(text: str) -> object:
    if text.lstrip()[:1] in {"[", "{"} or text.strip() in {"null", "~"}:
        return yaml.safe_load(text)
    return text


def lay_over(tree: dict[str, Any], override: Override) -> Problem | None:
    """Puts one value into the tree. What stands in its way is replaced only if it is null."""
    node: Any = tree
    for depth, step in enumerate(override.path):
        last = depth == len(override.path) - 1
        if isinstance(node, list):
            if not isinstance(step, int) or step > len(node):
                return Problem(path=override.origin, text=f"the list has {len(node)} entries: the next is {len(node)}")
            if step == len(node):
                node.append(None)
        elif not isinstance(node, dict):
            return Problem(path=override.origin, text="reaches into a value that has no parts")
        elif step not in node:
            node[step] = None
        if last:
            if node[step] is None or not override.only_if_null:
                node[step] = override.value
        elif node[step] is None:
            node[step] = [] if is_list(override.path[: depth + 1]) else {}
        node = node[step]
    return None
