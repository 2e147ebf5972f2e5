"""`kveil reload`: the proxy that runs here reads its configuration again."""

import typer

from kveil.proxy.cli import options
from kveil.proxy.cli.admin_socket import Socket, ask_proxy
from kveil.proxy.cli.apps import command_app

app = command_app()


@app.command()
def reload(
    *,
    config: options.ConfigFile = None,
    socket: Socket = None,
    as_json: options.AsJson = False,
) -> None:
    """Have the proxy that runs here take up its changed configuration, keys and certificates, or say why it can't."""
    changed = ask_proxy(config, socket, "POST", "/reload", as_json=as_json)
    if not as_json:
        what = f"changed: {', '.join(changed)}" if changed else "the configuration is the same"
        typer.echo(f"reloaded; {what}")
