"""How commands are audited: in the log on standard error, and in the audit's file."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kveil.proxy.config import Audit, Settings


@contextmanager
def audited(operation: str, settings: "Settings") -> Iterator[None]:
    """Audit what a command decides in a block: the operation is the command, the principal who runs it.

    :raises ConfigError: the audit's file is required, and can't be opened. Nothing was done.
    """
    with _audited(operation, settings.audit):
        yield


@contextmanager
def audited_by_file(operation: str, config: Path | None) -> Iterator[None]:
    """The same for a command that reads nothing else of the configuration."""
    from kveil.proxy import log
    from kveil.proxy.config import load_audit

    log.configure(level="error")
    with _audited(operation, load_audit(config)):
        yield


@contextmanager
def _audited(operation: str, audit: "Audit") -> Iterator[None]:
    from kveil.proxy.admin.audit import Cause, caused_by
    from kveil.proxy.admin.audit_trail import for_command

    trail = for_command(audit)
    cause = Cause(principal=_user(), client_id=None, address=None, operation=operation, correlation_id=None)
    token = caused_by.set(cause)
    try:
        with trail.recording_now():
            yield
    finally:
        caused_by.reset(token)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
