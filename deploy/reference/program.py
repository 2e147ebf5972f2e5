"""The commands as the program has them: what `--help` says of each, as values."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from typer.core import TyperGroup
from typer.main import get_command

from kveil.proxy.cli.root import app

_HELP: Final = "--help"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command. `name` is as typed, with those above it."""

    name: str
    usage: str
    help: str
    arguments: Sequence[tuple[str, str]]
    """How each is written, and what it means."""
    options: Sequence[tuple[str, str]]
    epilog: str = ""


def root() -> Command:
    """The program itself, with the options that stand before a command."""
    command = get_command(app)
    return _described(command, _context(command, "kveil", None), "kveil")


def commands() -> Iterator[Command]:
    """Every command that does something, in the order of `kveil --help`."""
    command = get_command(app)
    yield from _below(command, _context(command, "kveil", None), "kveil")


def _below(group: Any, context: Any, name: str) -> Iterator[Command]:
    for child in group.list_commands(context):
        command = group.get_command(context, child)
        inner = _context(command, child, context)
        if isinstance(command, TyperGroup):
            yield from _below(command, inner, f"{name} {child}")
        else:
            yield _described(command, inner, f"{name} {child}")


def _context(command: Any, name: str, above: Any) -> Any:
    return command.context_class(command, info_name=name, parent=above)


def _described(command: Any, context: Any, name: str) -> Command:
    rows: dict[str, list[tuple[str, str]]] = {"argument": [], "option": []}
    for one in command.params:
        record = one.get_help_record(context)
        if record is not None and _HELP not in one.opts:
            rows[one.param_type_name].append(_row(one, record))
    return Command(
        name=name,
        usage=" ".join((name, *command.collect_usage_pieces(context))),
        help=" ".join((command.help or "").split()),
        arguments=rows["argument"],
        options=rows["option"],
        epilog=" ".join((command.epilog or "").split()),
    )


def _row(parameter: Any, record: tuple[str, str]) -> tuple[str, str]:
    names, meaning = record
    if parameter.param_type_name == "argument":
        names = parameter.metavar  # its type is text, which goes without saying
    return " ".join(names.split()), " ".join(meaning.split())
