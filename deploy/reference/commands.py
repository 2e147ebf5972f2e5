"""docs/reference/commands.md: every command, its arguments and options, as the program has them."""

from collections.abc import Iterator, Sequence
from typing import Final

from deploy.reference.program import Command, commands, root

_TOP: Final = """\
# Commands, all of them

This page is made from the program by `make docs`, and says what `kveil COMMAND --help` says.
[commands.md](../commands.md) tells what each is for, with examples; [configuration.md](configuration.md) has the
settings.
"""


def commands_page() -> str:
    """The whole page."""
    program = root()
    lines = [_TOP, program.epilog, "", "Options before a command:", "", *_table("option", program.options)]
    for command in commands():
        lines += _section(command)
    return "\n".join(lines) + "\n"


def _section(command: Command) -> Iterator[str]:
    yield from ("", f"## {command.name}", "", command.help, "", "```", command.usage, "```")
    for title, rows in (("argument", command.arguments), ("option", command.options)):
        if rows:
            yield ""
            yield from _table(title, rows)


def _table(title: str, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield f"| {title} | meaning |"
    yield "|---|---|"
    for names, meaning in rows:
        yield f"| `{_cell(names)}` | {_cell(meaning).replace('<', '&lt;')} |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
