"""From a file, the environment and flags to `Settings`, or to every reason why not."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import TypeAdapter, ValidationError

from kveil.proxy.config import limits
from kveil.proxy.config.audit import Audit
from kveil.proxy.config.checks import cross_checks
from kveil.proxy.config.errors import ConfigError, Problem
from kveil.proxy.config.keys import Keys
from kveil.proxy.config.layers import Override, environment, lay_over
from kveil.proxy.config.listeners import Listener
from kveil.proxy.config.models import Admin, Settings
from kveil.proxy.config.placeholders import is_within, problem_of, unfilled
from kveil.proxy.config.problems import dotted, problems_of, unknown_key, with_origin

_ABOUT_KEYS: Final = ("realm", "keys", "identity", "topics", "presets", "audit")


def load(
    path: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    overrides: Sequence[Override] = (),
) -> Settings:
    """The settings of this process. Raises one ConfigError that holds every problem."""
    sections, problems, origins = _collect(path, environ, overrides)
    problems += [with_origin(problem, origins) for problem in cross_checks(sections)]
    if problems:
        raise ConfigError(problems)
    return Settings(**sections)


def load_keys(
    path: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    overrides: Sequence[Override] = (),
) -> Keys:
    """Where the keys are, for commands that need no cluster. Faults elsewhere don't matter to them."""
    sections, problems, _ = _collect(path, environ, overrides)
    keys = sections.get("keys")
    if not isinstance(keys, Keys):
        raise ConfigError([problem for problem in problems if problem.path.partition(".")[0] == "keys"])
    return keys


def load_key_settings(
    path: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    overrides: Sequence[Override] = (),
) -> Settings:
    """What is about keys, all else as by default, for commands that need no cluster: there is no `upstream`."""
    sections, problems, origins = _collect(path, environ, overrides)
    about: dict[str, Any] = {name: sections[name] for name in _ABOUT_KEYS if name in sections}
    problems = [problem for problem in problems if re.split(r"[.\[]", problem.path)[0] in _ABOUT_KEYS]
    problems += [with_origin(problem, origins) for problem in cross_checks(about)]
    if problems:
        raise ConfigError(problems)
    return Settings.model_construct(**about)


def load_listeners(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> tuple[Listener, ...]:
    """The listeners, for commands that need no cluster. Faults elsewhere don't matter to them."""
    sections, problems, _ = _collect(path, environ, ())
    listeners = sections.get("listeners")
    if not isinstance(listeners, tuple):
        raise ConfigError([problem for problem in problems if problem.path.startswith("listeners")])
    return listeners


def load_admin(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Admin:
    """Where the proxy can be asked, for commands that ask it. Faults elsewhere don't matter to them."""
    sections, problems, _ = _collect(path, environ, ())
    admin = sections.get("admin")
    if not isinstance(admin, Admin):
        raise ConfigError([problem for problem in problems if problem.path.startswith("admin")])
    return admin


def load_audit(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Audit:
    """Where audit events go, for commands that need no cluster. Faults elsewhere don't matter to them."""
    sections, problems, _ = _collect(path, environ, ())
    audit = sections.get("audit")
    if not isinstance(audit, Audit):
        raise ConfigError([problem for problem in problems if problem.path.startswith("audit")])
    return audit


def _collect(
    path: Path | None, environ: Mapping[str, str], overrides: Sequence[Override]
) -> tuple[dict[str, Any], list[Problem], dict[tuple[str | int, ...], str]]:
    """The sections that are right by themselves, what is wrong with the others, and who set which path."""
    tree = {} if path is None else _read_file(path)
    origins: dict[tuple[str | int, ...], str] = {}
    problems: list[Problem] = []
    for item in (*environment(environ), *overrides):
        if isinstance(item, Problem):
            problems.append(item)
        elif problem := lay_over(tree, item):
            problems.append(problem)
        else:
            origins[item.path] = item.origin
    return _sections(tree, origins, problems), problems, origins


def _sections(
    tree: dict[str, Any], origins: dict[tuple[str | int, ...], str], problems: list[Problem]
) -> dict[str, Any]:
    """The parts that are right, each checked for itself: one bad part must not hide the faults of another."""
    if tree.get("upstream") is None:
        tree["upstream"] = {}
    known = Settings.model_fields
    for name in tree.keys() - known.keys():
        where = origins.get((name,)) or next((o for p, o in origins.items() if p[0] == name), None)
        note = f" (set by {where})" if where else ""
        problems.append(Problem(path=dotted((str(name),)), text=unknown_key((str(name),)) + note))
    sections: dict[str, Any] = {}
    for name, field in known.items():
        if name not in tree:
            sections[name] = field.get_default(call_default_factory=True, validated_data={})
            continue
        adapter = TypeAdapter[Any](Settings.__annotations__[name])
        blanks = unfilled(tree[name], (name,))
        problems.extend(with_origin(problem_of(place), origins) for place in blanks)
        try:
            section = adapter.validate_python(tree[name])
        except ValidationError as error:
            found = problems_of(error, (name,), origins)
            problems.extend(problem for problem in found if not is_within(problem.path, blanks))
        else:
            if not blanks:
                sections[name] = section
    return sections


def places_to_fill_in(text: str) -> list[str]:
    """Where a configuration that was just written has placeholders."""
    return unfilled(yaml.safe_load(text))


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(limits.CONFIG_BYTES + 1)
    except OSError as error:
        raise _unusable(path, f"can't be read: {error.strerror}") from None
    if len(data) > limits.CONFIG_BYTES:
        raise _unusable(path, f"is larger than {limits.CONFIG_BYTES} bytes: that is no configuration")
    try:
        tree = yaml.load(data, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader that is stricter still
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise _unusable(path, f"is not YAML: {error.problem}{where}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise _unusable(path, "is not YAML: it must be UTF-8 text") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise _unusable(path, "must be a map of keys and values")
    return tree


def _unusable(path: Path, text: str) -> ConfigError:
    return ConfigError([Problem(path=str(path), text=text)])


class _StrictLoader(yaml.SafeLoader):
    """YAML keeps the last of two equal keys. Here a second `topics:` would drop the first one's rules."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)
