"""`kveil version`: which one this is."""

import typer

from kveil.proxy.cli.apps import command_app

app = command_app()


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(version_line())


def version_line() -> str:
    """Name and version of the installed distribution."""
    from importlib.metadata import version as installed

    return f"kveil {installed('kveil')}"
