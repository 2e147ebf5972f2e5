"""pydantic's findings as sentences that say the way out."""

from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from kveil.proxy.config.errors import Problem
from kveil.proxy.config.schema import model_at

Path = tuple[str | int, ...]

_MISSING: Final = {
    "upstream.bootstrap": (
        "is missing: name the cluster's bootstrap servers here, by --upstream host:9092, "
        "or in KVEIL_UPSTREAM__BOOTSTRAP"
    ),
}
_EXPECTED: Final = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text; put it in quotes if YAML takes it for something else",
    "path_type": "must be a path",
    "tuple_type": "must be a list",
    "dict_type": "must be a map, as in nodes: {1200: 6200} or networks: {office: [10.1.0.0/16]}",
    "model_type": "must be a map of keys and values",
    "too_short": "must not be empty",
    "none_required": "must be left out",
}


def problems_of(error: ValidationError, prefix: Path, origins: dict[Path, str]) -> list[Problem]:
    """All that pydantic found below `prefix`, with the flag or variable that it came from, if any."""
    found = error.errors(include_url=False, include_input=False)
    # A list whose every entry is wrong would be called empty besides.
    noise = {one["loc"] for one in found if any(len(o["loc"]) > len(one["loc"]) for o in found)}
    found = [one for one in found if one["type"] != "too_short" or one["loc"] not in noise]
    return [_problem((*prefix, *one["loc"]), one, origins) for one in found]


def dotted(path: Path) -> str:
    """`("topics", 1, "mode")` as `topics[1].mode`. A name that can't be seen, or that ends a line, is quoted."""
    text = ""
    for step in path:
        name = step if isinstance(step, int) or (step.strip() and step.isprintable()) else repr(step)
        text += f"[{name}]" if isinstance(step, int) else f".{name}"
    return text.removeprefix(".")


def with_origin(problem: Problem, origins: dict[Path, str]) -> Problem:
    """The problem, with the flag or variable that set its key or something above it, if one did."""
    for path in sorted(origins, key=len, reverse=True):
        place = dotted(path)
        if problem.path == place or problem.path.startswith((f"{place}.", f"{place}[")):
            return Problem(path=problem.path, text=f"{problem.text} (set by {origins[path]})")
    return problem


def unknown_key(path: Path) -> str:
    """What to say of a key that there isn't."""
    model = model_at(path[:-1])
    known = list(model.model_fields) if model else []
    near = get_close_matches(str(path[-1]), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"there is no such key; {hint}"


def _problem(path: Path, one: ErrorDetails, origins: dict[Path, str]) -> Problem:
    path = tuple(step for step in path if step != "[key]")
    text = _sentence(path, one)
    # A flag or variable may have set the value itself or something above it.
    origin = next((origins[path[:n]] for n in range(len(path), 0, -1) if path[:n] in origins), None)
    return Problem(path=dotted(path), text=f"{text} (set by {origin})" if origin else text)


def _sentence(path: Path, one: ErrorDetails) -> str:
    kind, context = one["type"], one.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        return unknown_key(path)
    if kind == "missing":
        return _MISSING.get(dotted(path), "is missing")
    if kind in {"enum", "literal_error"}:
        return f"must be one of {_choices(context)}"
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind]} {next(iter(context.values()))}"
    return _EXPECTED.get(kind, one["msg"])


_BOUNDS: Final = {
    "greater_than": "more than",
    "greater_than_equal": "at least",
    "less_than": "less than",
    "less_than_equal": "at most",
}


def _choices(context: dict[str, Any]) -> str:
    return str(context["expected"]).replace("'", "").replace(" or ", ", ")
