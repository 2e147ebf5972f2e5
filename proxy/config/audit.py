"""Where audit events go."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from kveil.proxy.config import limits
from kveil.proxy.config.fields import Topic
from kveil.proxy.config.section import Section


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        msg = f"{path} must be an absolute path: the file is opened again after each rotation"
        raise ValueError(msg)
    return path


class AuditFile(Section):
    """A file of events, a line each."""

    path: Annotated[Path, AfterValidator(_absolute)]
    max_bytes: Annotated[int, Field(ge=limits.AUDIT_FILE_BYTES_LEAST)] = limits.AUDIT_FILE_BYTES
    keep: Annotated[int, Field(ge=0, le=limits.AUDIT_FILES_MOST)] = limits.AUDIT_FILES
    group_readable: bool = False


class Audit(Section):
    """The sinks, and whether clients are served without them."""

    log: bool = True
    stdout: bool = False
    file: AuditFile | None = None
    topic: Topic | None = None
    queue: Annotated[int, Field(ge=limits.AUDIT_QUEUE_LEAST, le=limits.AUDIT_QUEUE_MOST)] = limits.AUDIT_QUEUE
    required: bool = False

    @field_validator("required")
    @classmethod
    def _has_a_sink(cls, value: object, info: ValidationInfo) -> object:
        sinks = ("stdout", "file", "topic")
        if value and all(name in info.data and not info.data[name] for name in sinks):
            msg = "needs a sink that says whether it has taken an event: set audit.stdout, audit.file or audit.topic"
            raise ValueError(msg)
        return value
