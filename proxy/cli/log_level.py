"""`kveil log-level`: what the proxy that runs here logs, for now."""

from typing import Annotated

import typer

from kveil.proxy.cli import options
from kveil.proxy.cli.admin_socket import Socket, ask_proxy
from kveil.proxy.cli.apps import command_app

app = command_app()


@app.command()
def log_level(
    level: Annotated[str, typer.Argument(metavar="LEVEL", help="debug, info, warning or error.")],
    *,
    config: options.ConfigFile = None,
    socket: Socket = None,
    as_json: options.AsJson = False,
) -> None:
    """Have the proxy that runs here log from this level on, until it reloads or ends."""
    from kveil.proxy.config import LogLevel

    if level not in set(LogLevel):
        raise typer.BadParameter(f"must be one of {', '.join(LogLevel)}", param_hint="LEVEL")
    ask_proxy(config, socket, "PUT", "/log-level", level, as_json=as_json)
    if not as_json:
        typer.echo(f"the log level is {level} until the next reload")
