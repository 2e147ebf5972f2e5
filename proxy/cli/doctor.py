"""`kveil doctor`: can this host seal, reach the cluster and open again, and what will make trouble."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kveil.proxy.cli import options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.options import Flags, settings_from

if TYPE_CHECKING:
    from kveil.proxy.config import Settings
    from kveil.proxy.doctor.checks import Order
    from kveil.proxy.doctor.findings import Finding

app = command_app()


@app.command()
def doctor(
    topics: Annotated[list[str] | None, typer.Argument(metavar="TOPIC", help="Topics to look at.")] = None,
    *,
    canary: Annotated[
        str | None,
        typer.Option("--canary", metavar="TOPIC", help="Write a record to this topic instead of a temporary one."),
    ] = None,
    no_canary: Annotated[bool, typer.Option("--no-canary", help="Write nothing: change nothing at all.")] = False,
    command_config: Annotated[
        Path | None,
        typer.Option("--command-config", metavar="FILE", help="A client's properties, with the login to use."),
    ] = None,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    keys: options.KeyPath = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
    as_json: options.AsJson = False,
) -> None:
    """Look at the way to the cluster and back, and say how to mend what is wrong.

    A record is sealed, produced to a temporary topic, and read back. Exit code 0: all is well. 1: something fails.
    2: the configuration can't be used. 3: there are warnings.
    """
    from kveil.proxy import log
    from kveil.proxy.doctor.checks import Order
    from kveil.proxy.doctor.findings import exit_code
    from kveil.proxy.server import run_loop

    if canary is not None and no_canary:
        raise typer.BadParameter("--canary and --no-canary exclude each other")
    flags = Flags(config=config, upstream=upstream, keys=keys, tls=tls, tls_ca=tls_ca)
    settings = _settings(flags, command_config, as_json=as_json)
    log.configure(settings.log.format.value, "critical")  # what is wrong is told by the findings
    order = Order(config=config, topics=topics or (), canary=not no_canary, canary_topic=canary)
    findings = run_loop(_examine(settings, order, as_json=as_json))
    if as_json:
        typer.echo(_as_json(findings))
    raise typer.Exit(exit_code(findings))


def _settings(flags: Flags, command_config: Path | None, *, as_json: bool) -> "Settings":
    """The settings, with the login that is given for the command. Raises ConfigError, or ends the program."""
    from kveil.proxy.config import ConfigError
    from kveil.proxy.migrate.client_properties import with_login
    from kveil.proxy.migrate.errors import MigrateError

    try:
        settings = settings_from(flags)
        return settings if command_config is None else with_login(settings, command_config)
    except ConfigError as error:
        if not as_json:
            raise
        problems = [{"path": problem.path, "text": problem.text} for problem in error.problems]
        typer.echo(json.dumps({"ok": False, "problems": problems}, indent=2))
        raise typer.Exit(error.exit_code) from None
    except MigrateError as error:
        typer.echo(f"kveil: {error}", err=True)
        raise typer.Exit(error.exit_code) from None


async def _examine(settings: "Settings", order: "Order", *, as_json: bool) -> "list[Finding]":
    from kveil.proxy.doctor.checks import Examined
    from kveil.proxy.doctor.examination import Listener, examine

    examined = Examined(settings, order)
    listener = Listener(found=_quiet if as_json else _tell, waiting=_tell_waiting)
    try:
        return await examine(examined.checks(), listener)
    finally:
        await examined.close()


def _quiet(_finding: "Finding") -> None:
    """In JSON all are told at the end."""


def _tell(finding: "Finding") -> None:
    typer.echo(line(finding))
    sys.stdout.flush()


def _tell_waiting(check: str) -> None:
    typer.echo(f"kveil: still looking at: {check}", err=True)


def line(finding: "Finding") -> str:
    """A finding as a line. What is ok is written small, so that the rest is seen."""
    from kveil.proxy.doctor.findings import Level

    is_well = finding.level in {Level.OK, Level.SKIPPED}
    level = finding.level.value if is_well else finding.level.value.upper()
    remedy = "" if finding.remedy is None else f" -> {finding.remedy}"
    return f"{level:<8}{finding.check}: {finding.what}{remedy}"


def _as_json(findings: "list[Finding]") -> str:
    from kveil.proxy.doctor.findings import Level, worst

    level = worst(findings)
    shown = {
        "ok": level in {Level.OK, Level.SKIPPED},
        "worst": level.value,
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(shown, indent=2)
