"""The command line. One file a command, imported when the command is used.

A command's module has an `app`, made by `command_app`, and imports what it needs inside of its functions:
`kveil --help` waits for none of it. Exit codes: 0 done, 1 failed, 2 wrong use or configuration.
"""

import gc
from typing import Final

from kveil.proxy.cli.root import app

__all__ = ["app", "main"]


OBJECTS_BETWEEN_LOOKS: Final = 20_000
"""For the garbage collector: a few MB at most. What a command imports stays, and each look at it delays the start. Once
it serves, a frame's objects go as soon as it is done, without the collector, and each look costs frames that wait."""


def main() -> None:
    """The `kveil` program."""
    gc.set_threshold(OBJECTS_BETWEEN_LOOKS)
    app(prog_name="kveil")
