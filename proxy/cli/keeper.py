"""`kveil keeper`: hand epoch keys on to those who joined later and may read all."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from kveil.proxy.cli import identities, options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.auditing import audited
from kveil.proxy.cli.options import Flags, settings_from
from kveil.proxy.cli.telling import tell

if TYPE_CHECKING:
    from kveil.proxy.config import Settings
    from kveil.proxy.identity.control import Control

app = command_app()

FAILED: Final = 1


@app.callback()
def keeper() -> None:
    """Hand epoch keys on to those who joined later and may read all. A keeper can read all that it was granted."""


@app.command()
def run(
    *,
    directory: identities.IdentityDirectory = None,
    passphrase: identities.Passphrase = None,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
    log_level: options.LogLevel = None,
    log_format: options.LogFormat = None,
) -> None:
    """Follow the control topic, and hand keys on as they are missed, until it is stopped."""
    import asyncio

    flags = Flags(config=config, upstream=upstream, tls=tls, tls_ca=tls_ca, log_level=log_level, log_format=log_format)
    settings = settings_from(flags)
    with audited("kveil keeper run", settings):
        asyncio.run(_run(settings, _control(settings, directory, passphrase, config)))


async def _run(settings: "Settings", control: "Control") -> None:
    import asyncio
    import signal

    from kveil.proxy.admin.survey import control_samples
    from kveil.proxy.log import get_logger
    from kveil.proxy.net.command_port import command_port
    from kveil.proxy.net.keeping import keep

    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    log = get_logger(__name__)
    log.info("keeper_running", realm=control.view.realm, fingerprint=control.me.hex())
    async with command_port(settings, lambda: control_samples(control), lambda: _trouble(control)):
        await keep(settings, control, stopping, _log)
    log.info("stopped")


def _trouble(control: "Control") -> str | None:
    """Why nothing can be handed on, None if it can."""
    from kveil.proxy.keys.errors import KeyDenied

    if not control.is_read:
        return "the control topic wasn't read yet"
    try:
        control.own_credential()
    except KeyDenied as error:
        return str(error)
    return control.opening_stop()


def _log(what: int | str) -> None:
    from kveil.proxy.log import get_logger, log_limited

    if isinstance(what, int):
        get_logger(__name__).info("regranted", regrants=what)
    else:
        log_limited(get_logger(__name__).warning, "nothing_regranted", key=what, reason=what)


@app.command()
def regrant(
    *,
    directory: identities.IdentityDirectory = None,
    passphrase: identities.Passphrase = None,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
    as_json: options.AsJson = False,
) -> None:
    """Hand on what is missing now, once: for a keeper that is offline otherwise."""
    import asyncio

    from kveil.proxy.keys.errors import KeyDenied, KeyUnavailable
    from kveil.proxy.net.keeping import keep_once

    settings = settings_from(Flags(config=config, upstream=upstream, tls=tls, tls_ca=tls_ca))
    control = _control(settings, directory, passphrase, config)
    try:
        with audited("kveil keeper regrant", settings):
            made = asyncio.run(keep_once(settings, control))
    except (KeyDenied, KeyUnavailable) as error:
        typer.echo(f"kveil: {error}", err=True)
        raise typer.Exit(FAILED) from None
    tell(f"{made} regrants were made.", {"regrants": made}, as_json=as_json)


def _control(settings: "Settings", directory: Path | None, passphrase: str | None, config: Path | None) -> "Control":
    """What this node believes of the control topic, of which nothing is read yet. Raises IdentityError."""
    from kveil.proxy import log
    from kveil.proxy.identity.control import Control
    from kveil.proxy.identity.node import open_node_at

    log.configure(settings.log.format.value, settings.log.level.value)
    node = open_node_at(*identities.node_place(directory, passphrase, config))
    return Control(node, clock=time.monotonic, unix_time=time.time)
