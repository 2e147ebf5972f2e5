"""What a new configuration has where only its owner knows what belongs there: `"<fill in: the bootstrap server>"`.

Until each of them is replaced the configuration is refused, also where the text itself could pass for a value.
"""

from collections.abc import Iterator
from typing import Any, Final

from kveil.proxy.config.errors import Problem
from kveil.proxy.config.problems import Path, dotted

MARK: Final = "<fill in"
# The text between the brackets isn't repeated: by mistake a secret may have been put there.
_TEXT: Final = f'is not filled in yet: put what belongs here in the place of "{MARK}: ...>"'


def unfilled(value: object, path: Path = ()) -> list[str]:
    """Where placeholders are, as in `upstream.bootstrap[0]`."""
    return list(_unfilled(value, path, set()))


def problem_of(place: str) -> Problem:
    """That a placeholder is still there."""
    return Problem(path=place, text=_TEXT)


def is_within(path: str, places: list[str]) -> bool:
    """Whether `path` is one of the places or below one: what else is wrong there says nothing."""
    return any(path == place or path.startswith((f"{place}.", f"{place}[")) for place in places)


def _unfilled(value: object, path: Path, seen: set[int]) -> Iterator[str]:
    if isinstance(value, str):
        if value.strip().lower().startswith(MARK):
            yield dotted(path)
        return
    if id(value) in seen:  # by YAML's aliases a part may be in many places, even in itself
        return
    seen.add(id(value))
    parts: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from _unfilled(part, (*path, name if isinstance(name, int) else str(name)), seen)
