"""What was found, and the exit code that says the worst of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Level(StrEnum):
    """From good to bad."""

    OK = "ok"
    SKIPPED = "skipped"
    """Not looked at, because of something else that was found, or by the user's choice."""
    WARNING = "warning"
    FAILURE = "failure"


_ORDER: Final = tuple(Level)
_EXIT_CODES: Final = {Level.OK: 0, Level.SKIPPED: 0, Level.WARNING: 3, Level.FAILURE: 1}
"""1 and 2 mean the same as with every command: failed, and wrong use or configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. What isn't well has a remedy."""

    level: Level
    check: str
    what: str
    remedy: str | None = None


def ok(check: str, what: str) -> Finding:
    """It is as it should be."""
    return Finding(level=Level.OK, check=check, what=what)


def skipped(check: str, what: str, remedy: str | None = None) -> Finding:
    """It was not looked at."""
    return Finding(level=Level.SKIPPED, check=check, what=what, remedy=remedy)


def warning(check: str, what: str, remedy: str) -> Finding:
    """It works, and will make trouble or may."""
    return Finding(level=Level.WARNING, check=check, what=what, remedy=remedy)


def failure(check: str, what: str, remedy: str) -> Finding:
    """It doesn't work."""
    return Finding(level=Level.FAILURE, check=check, what=what, remedy=remedy)


def worst(findings: Iterable[Finding]) -> Level:
    """Return the worst level among the findings."""
    return max((finding.level for finding in findings), key=_ORDER.index, default=Level.OK)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 if all is well, 3 if the worst is a warning, 1 if it is a failure."""
    return _EXIT_CODES[worst(findings)]
