"""`kveil init`: a configuration to begin with, for the service that has the cluster."""

import shlex
from pathlib import Path
from typing import Annotated, Final

import typer

from kveil.proxy.cli import options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.starting_points import SERVICES, For, configuration
from kveil.proxy.cli.telling import tell

app = command_app()

FAILED: Final = 1
WRONG_USE: Final = 2
STDOUT: Final = Path("-")

_LOGINS: Final = ", ".join(f"{name}: {' or '.join(service.logins)}" for name, service in SERVICES.items())


class NotWritten(Exception):
    """The file can't be written."""


@app.command()
def init(
    service: Annotated[For, typer.Option("--for", help="Who has the cluster.")] = For.PLAIN,
    login: Annotated[
        str | None, typer.Option("--login", metavar="LOGIN", help=f"How to log in there. {_LOGINS}. [the first]")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where to write it; - for standard output.")
    ] = Path("kveil.yaml"),
    as_json: options.AsJson = False,
) -> None:
    """Write a configuration to begin with. Never touches a file that is there."""
    from kveil.proxy.config import default_key_path, places_to_fill_in

    known = SERVICES[service]
    chosen = next(iter(known.logins)) if login is None else login
    if chosen not in known.logins:
        raise typer.BadParameter(f"for {service.value} there is: {', '.join(known.logins)}", param_hint="--login")
    if as_json and out == STDOUT:
        raise typer.BadParameter("standard output has room for one of them: JSON, or the configuration")
    text = configuration(service, chosen, default_key_path())
    places = places_to_fill_in(text)
    if out == STDOUT:
        typer.echo(text, nl=False)
        typer.echo(_next_steps(places, Path("kveil.yaml")), err=True)
        return
    _write(out, text)
    shown = {"path": str(out), "for": service.value, "login": chosen, "fill_in": places}
    tell(f"Made {out}, for {known.title}.\n{_next_steps(places, out)}", shown, as_json=as_json)


def _write(path: Path, text: str) -> None:
    from kveil.proxy.private_file import PrivateFile

    try:
        made = PrivateFile(path, "configuration", NotWritten).create(text.encode())
    except NotWritten as error:
        typer.echo(f"kveil: {error}", err=True)
        raise typer.Exit(FAILED) from None
    if not made:
        typer.echo(f"kveil: {path} is there, and is left alone: name another file by --out", err=True)
        raise typer.Exit(WRONG_USE)


def _next_steps(places: list[str], path: Path) -> str:
    file = shlex.quote(str(path))
    return (
        f"To fill in: {', '.join(places)}\n\n"
        "Then:\n"
        f"  kveil keys init -c {file}   # makes the key file: keep a copy of it\n"
        f"  kveil check -c {file}       # says what is wrong, if anything is\n"
        f"  kveil doctor -c {file}      # connects to the cluster, and says what will make trouble\n"
        f"  kveil run -c {file}         # listens on localhost:5000"
    )
