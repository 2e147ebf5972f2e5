"""How a problem that the user can mend is told."""

import typer

from kveil.proxy.config.errors import ConfigError
from kveil.proxy.keys.errors import KeySetupError
from kveil.proxy.users.errors import UsersFileError


def tell_problem(error: Exception) -> int | None:
    """Tell it in plain sentences, without a traceback, and return the exit code; None if it is something else."""
    if not isinstance(error, ConfigError | KeySetupError | UsersFileError):
        return None
    for line in str(error).splitlines():
        typer.echo(f"kveil: {line}", err=True)
    return error.exit_code
