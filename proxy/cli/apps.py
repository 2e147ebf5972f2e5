"""How a command's typer app is made."""

import typer


def command_app() -> typer.Typer:
    """An app for one command, or for one group of them.

    Help is plain text, since rich would take longer to load than all the rest. Tracebacks are Python's own:
    typer's show local variables, and one of them may be a key.
    """
    return typer.Typer(
        add_completion=False, no_args_is_help=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )
