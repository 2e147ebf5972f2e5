"""What `kveil reload` and `kveil log-level` have in common: they ask the proxy that runs here, at its admin socket."""

from pathlib import Path
from typing import Annotated, Final

import typer

from kveil.proxy.cli.telling import tell

FAILED: Final = 1

Socket = Annotated[
    Path | None,
    typer.Option("--socket", metavar="FILE", help="The proxy's admin socket, instead of the configuration's."),
]


def ask_proxy(
    config: Path | None, socket: Path | None, method: str, what: str, body: str = "", *, as_json: bool
) -> list[str]:
    """What has changed. Ends the program with code 1, and each problem told, if the proxy refuses or isn't there.

    :raises ConfigError: nothing says where the socket is.
    """
    from kveil.proxy.config import load_admin
    from kveil.proxy.config.errors import ConfigError, Problem
    from kveil.proxy.net.admin_client import NobodyThere, ask_admin

    path = socket or load_admin(config).socket
    if path is None:
        text = "names no socket to ask at: set it and restart the proxy, or send the proxy SIGHUP to reload"
        raise ConfigError([Problem(path="admin.socket", text=text)])
    try:
        outcome = ask_admin(path, method, what, body)
    except NobodyThere as error:
        typer.echo(f"kveil: {error}", err=True)
        raise typer.Exit(FAILED) from None
    tell(None, outcome, as_json=as_json)
    for problem in outcome["problems"]:
        typer.echo(f"kveil: {Problem(**problem)}", err=True)
    if outcome["problems"]:
        raise typer.Exit(FAILED)
    changed: list[str] = outcome["changed"]
    return changed
