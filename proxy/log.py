"""Logging: one event name for each kind of line, values beside it, and nothing secret.

    _log = get_logger(__name__)
    _log.info("listening", address="127.0.0.1:5000")
    log_limited(_log.warning, "batch_refused", key=(topic, partition), topic=topic, ...)

A line's event says what happened in the past tense or is a noun, in snake_case. `bytes` never show what is in
them, whatever they are: they may be a key or a client's record. Ids are logged as hex text.
"""

import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Protocol, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from kveil.proxy.secret import REDACTED, Secret

__all__ = [
    "RepeatLimit",
    "Secret",
    "bind_everywhere",
    "configure",
    "get_logger",
    "get_logger_at_every_level",
    "log_limited",
]

# A line of one kind about one thing is worth reading every so often, not every millisecond.
REPEAT_SECONDS: Final = 10.0
# Kinds of lines that are counted at a time. They may carry names that a broker invents, so they are bounded.
REPEAT_KEYS: Final = 4_096
# Deeper than any line is meant to be: what nests further is cut off rather than walked.
REDACTION_DEPTH: Final = 6


def get_logger(name: str, **values: object) -> FilteringBoundLogger:
    """A logger that names its module. It takes up `configure` whenever that is called."""
    return cast("FilteringBoundLogger", structlog.get_logger(name, module=name.removeprefix("kveil."), **values))


def get_logger_at_every_level(name: str) -> FilteringBoundLogger:
    """The same for lines that are written whatever the least severe level is."""
    return get_logger(name, **{_AT_EVERY_LEVEL: True})


# Looked at for each line, so that a change reaches loggers that are bound already, such as those of connections.
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_NOTHING: Final = 100
_AT_EVERY_LEVEL: Final = "at_every_level"
_least = LEVELS["info"]


def set_level(level: str) -> None:
    """Holds back what is less severe from now on, in all loggers of this process."""
    global _least
    _least = LEVELS[level]


def silence() -> None:
    """Writes nothing more, for a command that says by itself what is wrong."""
    global _least
    _least = _NOTHING


def level() -> str:
    """What is written now, and all that is more severe."""
    return next(name for name, severity in LEVELS.items() if severity == _least)


def _at_level(_logger: object, method: str, event: EventDict) -> EventDict:
    if not event.pop(_AT_EVERY_LEVEL, False) and LEVELS.get(method, _least) < _least:
        raise structlog.DropEvent
    return event


def configure(style: str = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Sets logging up for this process. `style` is auto, json or console; auto is console on a terminal."""
    set_level(level)
    out = sys.stderr if stream is None else stream
    console = out.isatty() if style == "auto" else style == "console"
    structlog.configure(
        processors=[*_COMMON, *(_console(colours=out.isatty()) if console else _json())],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS["debug"]),
        logger_factory=structlog.WriteLoggerFactory(out),  # one write a line: workers' lines don't mix
        cache_logger_on_first_use=False,  # so that a later call still reaches loggers that are in use
    )


_everywhere: dict[str, object] = {}


def bind_everywhere(**values: object) -> None:
    """Puts values on every line of this process from now on."""
    _everywhere.update(values)


def _bound(_logger: object, _method: str, event: EventDict) -> EventDict:
    return {**event, **_everywhere} if _everywhere else event


def redact(value: object, depth: int = REDACTION_DEPTH) -> object:
    """`value` without secrets and without the content of bytes, at any depth that is logged."""
    if isinstance(value, Secret):
        return REDACTED
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, str | int | float | None):
        return value
    if depth == 0:
        return "..."
    if isinstance(value, dict):
        return {str(redact(key, depth - 1)): redact(inner, depth - 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(inner, depth - 1) for inner in value]
    return str(value)


def _redacted(_logger: object, _method: str, event: EventDict) -> EventDict:
    # exc_info stays as it is for the processor that prints a traceback, which shows no values of variables.
    return {name: value if name == "exc_info" else redact(value) for name, value in event.items()}


_COMMON: Final[tuple[Processor, ...]] = (
    _at_level,
    _bound,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _redacted,
)


def _json() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _console(*, colours: bool) -> list[Processor]:
    # The default formatter prints local variables, and one of them may be a key.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)]


class RepeatLimit:
    """Lets one of many like lines through in `seconds`, and says how many were held back since the last."""

    def __init__(
        self,
        seconds: float = REPEAT_SECONDS,
        entries: int = REPEAT_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._entries = entries
        self._clock = clock
        self._held: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def admit(self, key: Hashable) -> int | None:
        """How many were held back before this one, which goes through; None if it is held back too."""
        now = self._clock()
        until, held = self._held.get(key, (now, 0))
        if now < until:
            self._held[key] = (until, held + 1)
            return None
        self._held[key] = (now + self._seconds, 0)
        self._held.move_to_end(key)
        if len(self._held) > self._entries:
            self._held.popitem(last=False)
        return held


class LogCall(Protocol):
    """A method such as `log.warning`."""

    def __call__(self, event: str, **values: object) -> object:
        """Writes a line."""
        ...


# One for the process, like the logging that it limits: callers are deep inside and many.
_repeats = RepeatLimit()


def log_limited(
    log: LogCall, event: str, *, key: Hashable = None, limit: RepeatLimit | None = None, **values: object
) -> None:
    """Writes a line unless one of this event and key was written a moment ago. `repeats` counts those."""
    held = (limit or _repeats).admit((event, key))
    if held is None:
        return
    if held:
        values["repeats"] = held
    log(event, **values)
