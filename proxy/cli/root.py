"""The root of the command line: which commands there are, and how an error looks."""

from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command

# In the order of `kveil --help`. Each is a module beside this one.
COMMANDS: Final = (
    "run",
    "producer",
    "consumer",
    "keys",
    "keeper",
    "users",
    "authority",
    "enroll",
    "identity",
    "who-can-read",
    "check",
    "health",
    "doctor",
    "prepare",
    "migrate",
    "demo",
    "version",
)


def module_of(command: str) -> str:
    """Where a command is."""
    return f"{__package__}.{command.replace('-', '_')}"


class LazyGroup(TyperGroup):
    """Finds a command in the module of its name, and imports no other."""

    def list_commands(self, _ctx: object) -> list[str]:
        """Every command, in the order in which a newcomer needs them."""
        return [name for name in COMMANDS if find_spec(module_of(name))]

    def get_command(self, ctx: object, cmd_name: str) -> Any:
        """The command of that name, or None."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = get_command(import_module(module_of(cmd_name)).app)
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        """Runs a command. What its user can mend is told in plain sentences, without a traceback."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            from kveil.proxy.cli.problems import tell_problem

            code = tell_problem(error)
            if code is None:
                raise
            raise typer.Exit(code) from None


# As in `command_app`, but with completion, and lazy.
app: Final = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Kveil: an encrypting sidecar for Apache Kafka. The broker sees ciphertext, clients change no code.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from kveil.proxy.cli.version import version_line

        typer.echo(version_line())
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Kveil: an encrypting sidecar for Apache Kafka. The broker sees ciphertext, clients change no code."""
