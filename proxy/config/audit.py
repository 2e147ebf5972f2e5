"""Where audit events go."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from kveil.proxy.config import limits
from kveil.proxy.config.fields import Topic
from kveil.proxy.config.section import Section


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        msg = "must be an absolute path: the file is opened again after each rotation"
        raise ValueError(msg)
    return path


class AuditFile(Section):
    """A file of events, a line each."""

    path: Annotated[Path, AfterValidator(_absolute)]
    """The file, an absolute path, in a folder that the proxy may write to. Rotated ones are beside it: `PATH.1`,
    `PATH.2`."""
    max_bytes: Annotated[int, Field(ge=limits.AUDIT_FILE_BYTES_LEAST)] = limits.AUDIT_FILE_BYTES
    """How large the file may be before the next event begins a new one."""
    keep: Annotated[int, Field(ge=0, le=limits.AUDIT_FILES_MOST)] = limits.AUDIT_FILES
    """How many rotated files are kept; the oldest is deleted."""
    group_readable: bool = False
    """Whether the file's group may read it (mode 0640 in place of 0600)."""


class Audit(Section):
    """The sinks, and whether clients are served without them."""

    log: bool = True
    """Whether audit events are lines of the log, on standard error, whatever `log.level` is. See [Audit](#audit)."""
    stdout: bool = False
    """Whether they go to standard output, a line of JSON each."""
    file: AuditFile | None = None
    """A file that they are appended to, and its rotation."""
    topic: Topic | None = None
    """A topic of the cluster that they are produced to. It must be there, and is sealed as its rule says."""
    queue: Annotated[int, Field(ge=limits.AUDIT_QUEUE_LEAST, le=limits.AUDIT_QUEUE_MOST)] = limits.AUDIT_QUEUE
    """Events that wait for a sink which can't take them, in each process and for each sink. Further ones are lost,
    counted and logged."""
    required: bool = False
    """Doesn't start, and serves nobody, while `stdout`, `file` or `topic`, where configured, takes no events."""

    @field_validator("required")
    @classmethod
    def _has_a_sink(cls, value: object, info: ValidationInfo) -> object:
        sinks = ("stdout", "file", "topic")
        if value and all(name in info.data and not info.data[name] for name in sinks):
            msg = "needs a sink that says whether it has taken an event: set audit.stdout, audit.file or audit.topic"
            raise ValueError(msg)
        return value
