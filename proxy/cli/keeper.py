"""`kveil keeper`: hand epoch keys on to those who joined later and may read all."""

from typing import TYPE_CHECKING, Final

import typer

from kveil.proxy.cli import options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.options import Flags, settings_from

if TYPE_CHECKING:
    from kveil.proxy.context import Shared
    from kveil.proxy.identity.control import Control

app = command_app()

FAILED: Final = 1


@app.callback()
def keeper() -> None:
    """Hand epoch keys on to those who joined later and may read all. A keeper can read all that it was granted."""


@app.command()
def run(
    *,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
    log_level: options.LogLevel = None,
    log_format: options.LogFormat = None,
) -> None:
    """Follow the control topic, and hand keys on as they are missed, until stopped."""
    import asyncio

    from kveil.proxy.server import run_loop

    flags = Flags(config=config, upstream=upstream, tls=tls, tls_ca=tls_ca, log_level=log_level, log_format=log_format)
    shared, control = _keeper(flags)

    async def work() -> None:
        import signal

        from kveil.proxy.net.keeping import keep

        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        await keep(shared, control, _tell, stopping)

    run_loop(work())


@app.command()
def regrant(
    *,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
) -> None:
    """Hand on what is missing now, once: for a keeper that is offline otherwise."""
    from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable
    from kveil.proxy.net.keeping import keep_once
    from kveil.proxy.server import run_loop

    shared, control = _keeper(Flags(config=config, upstream=upstream, tls=tls, tls_ca=tls_ca))
    try:
        made = run_loop(keep_once(shared, control))
    except (KeyDenied, KeyUnavailable) as error:
        typer.echo(f"kveil: {error}", err=True)
        raise typer.Exit(FAILED) from None
    typer.echo(f"{made} regrants were made.")


def _keeper(flags: Flags) -> "tuple[Shared, Control]":
    """What it takes to reach the cluster, and this node's view of the control topic."""
    from kveil.proxy import log
    from kveil.proxy.keys.errors import KeySetupError
    from kveil.proxy.server import share

    settings = settings_from(flags)
    log.configure(settings.log.format.value, settings.log.level.value)
    shared = share(settings)
    if shared.announced_keys is None:
        raise KeySetupError("keys.provider: a keeper needs identities, and no key of theirs is named")
    return shared, shared.announced_keys.control


def _tell(what: int | str) -> None:
    from kveil.proxy import log

    logger = log.get_logger(__name__)
    if isinstance(what, int):
        logger.info("regranted", regrants=what)
    else:
        log.log_limited(logger.warning, "nothing_regranted", key=what, reason=what)
