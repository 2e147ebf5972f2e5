"""`kveil health`: does the proxy that runs here serve its clients. For a container's probes."""

import json
from dataclasses import asdict
from typing import Annotated, Final

import typer

from kveil.proxy.cli import options
from kveil.proxy.cli.apps import command_app

app = command_app()

FAILED: Final = 1


@app.command()
def health(
    *,
    live: Annotated[
        bool, typer.Option("--live", help="Only whether connections are taken, also while the cluster is out of reach.")
    ] = False,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="N", min=0.1, help="How long to wait for an answer.")
    ] = 5.0,
    config: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Ask each listener of the proxy that runs here whether a client could work now."""
    from kveil.proxy.config import load_listeners
    from kveil.proxy.net.health_check import check_health

    found = [check_health(listener, seconds) for listener in load_listeners(config)]
    ok = all(one.live if live else one.ready for one in found)
    if as_json:
        typer.echo(json.dumps({"ok": ok, "listeners": [asdict(one) for one in found]}, indent=2))
    else:
        typer.echo("\n".join(f"listener {one.listener} {one.text}" for one in found))
    raise typer.Exit(0 if ok else FAILED)
