"""The command line. One file a command, imported when the command is used.

A command's module has an `app`, made by `command_app`, and imports what it needs inside of its functions:
`kveil --help` waits for none of it. Exit codes: 0 done, 1 failed, 2 wrong use or configuration.
"""

from kveil.proxy.cli.root import app

__all__ = ["app", "main"]


def main() -> None:
    """The `kveil` program."""
    app(prog_name="kveil")
