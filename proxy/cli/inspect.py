"""`kveil inspect`: what stands in a topic, envelope by envelope."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kveil.proxy.cli import options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.options import Flags, settings_from

if TYPE_CHECKING:
    from collections.abc import Callable

    from kveil.proxy.cli.inspect_report import Report
    from kveil.proxy.config import Settings
    from kveil.proxy.inspection.reading import Wanted
    from kveil.proxy.net.topic_scan import Start

app = command_app()

FAILED: Final = 1
USUAL_LIMIT: Final = 20

_EARLIEST: Final = ("earliest", "beginning")
_LATEST: Final = ("latest", "end")


@app.command()
def inspect(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="The topic to read.")],
    *,
    partition: Annotated[
        int | None, typer.Option("--partition", "-p", metavar="N", min=0, help="This partition only.")
    ] = None,
    offset: Annotated[
        str,
        typer.Option(
            "--offset", "-o", metavar="OFFSET", help="Begin here: an offset, -N for N before the end, earliest, latest."
        ),
    ] = "earliest",
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many envelopes of each partition.")
    ] = USUAL_LIMIT,
    opens: Annotated[bool, typer.Option("--open", help="Show what is inside, by the configuration's keys.")] = False,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    keys: options.KeyPath = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
    as_json: options.AsJson = False,
) -> None:
    """Show a topic's envelopes as the brokers hold them, sealed or plain. Opens none without --open."""
    import asyncio

    from kveil.proxy import log
    from kveil.proxy.errors import QuestionFailed
    from kveil.proxy.inspection.reading import Wanted

    wanted = Wanted(partition=partition, start=_start(offset), limit=limit)
    settings = settings_from(Flags(config=config, upstream=upstream, keys=keys, tls=tls, tls_ca=tls_ca))
    log.configure(settings.log.format.value, "info" if opens else "error")  # with the audit lines
    try:
        report = asyncio.run(_read(settings, topic, wanted, opens=opens))
    except QuestionFailed as error:
        typer.echo(f"kveil: {error}", err=True)
        raise typer.Exit(FAILED) from None
    typer.echo(json.dumps(report.as_json(), indent=2) if as_json else "\n".join(report.lines()))
    raise typer.Exit(0 if report.is_good else FAILED)


def _start(text: str) -> "Start":
    """Where to begin, as kcat and Kafka's console tools take it. Raises BadParameter."""
    if text in _EARLIEST:
        return lambda first, _: first
    if text in _LATEST:
        return lambda _, end: end
    try:
        number = int(text)
    except ValueError:
        words = ", ".join((*_EARLIEST, *_LATEST))
        raise typer.BadParameter(f"{text!r} is no offset: a number, -N, {words}", param_hint="--offset") from None
    return lambda first, end: max(first, number if number >= 0 else end + number)


async def _read(settings: "Settings", topic: str, wanted: "Wanted", *, opens: bool) -> "Report":
    """All that is shown. Raises QuestionFailed."""
    from contextlib import AsyncExitStack

    from kveil.proxy.cli.check import decide, sentence
    from kveil.proxy.cli.inspect_report import Report
    from kveil.proxy.inspection.opening import opener
    from kveil.proxy.inspection.reading import parts_of
    from kveil.proxy.net.topic_scan import TopicScan
    from kveil.proxy.server import share

    shared = share(settings)
    scan = TopicScan(shared, topic)
    await scan.begin()
    async with AsyncExitStack() as stack:
        opening = await stack.enter_async_context(opener(shared, topic)) if opens else None
        parts = await parts_of(scan, wanted, opening, _teller(topic, scan.partitions))
    decided = sentence(decide(shared.policy, topic))
    return Report(topic=topic, decided=decided, partitions=scan.partitions, parts=parts, limit=wanted.limit)


def _teller(topic: str, partitions: int) -> "Callable[[int], None]":
    """Who is told of progress: nobody if nobody looks."""
    from kveil.proxy.cli.scanning import ScanProgress

    return ScanProgress(topic, partitions).tell if sys.stderr.isatty() else lambda _: None
