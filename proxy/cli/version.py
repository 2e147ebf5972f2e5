"""`kveil version`: which one this is."""

from kveil.proxy.cli import options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.telling import tell

app = command_app()


@app.command()
def version(as_json: options.AsJson = False) -> None:
    """Print the version."""
    tell(version_line(), {"version": version_line().removeprefix("kveil ")}, as_json=as_json)


def version_line() -> str:
    """Name and version of the installed distribution."""
    from importlib.metadata import version as installed

    return f"kveil {installed('kveil')}"
