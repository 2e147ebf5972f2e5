"""`kveil migrate`: a topic's records into another one: sealed, under other keys, or plain again."""

import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kveil.proxy.cli import options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.auditing import audited
from kveil.proxy.cli.options import Flags, settings_from
from kveil.proxy.cli.telling import still_at

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from kveil.proxy.config import Settings
    from kveil.proxy.context import Shared
    from kveil.proxy.migrate.running import Order, Outcome

app = command_app()

FAILED: Final = 1
WRONG_USE: Final = 2
_MB: Final = 1_000_000


@app.command()
def migrate(
    source: Annotated[str | None, typer.Argument(metavar="SOURCE", help="The topic to copy.")] = None,
    dest: Annotated[
        str | None, typer.Argument(metavar="DEST", help="The topic to copy into. Made if there is none.")
    ] = None,
    *,
    to_plain: Annotated[bool, typer.Option("--to-plain", help="Write the records of a sealed topic plain.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on copying what comes, until Ctrl-C.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    rate_limit: Annotated[
        float | None, typer.Option("--rate-limit", metavar="MB/S", min=0.001, help="Read no faster than this.")
    ] = None,
    offsets_map: Annotated[
        Path | None, typer.Option("--offsets-map", metavar="FILE", help="Write which offset became which.")
    ] = None,
    translate_groups: Annotated[
        str | None,
        typer.Option("--translate-groups", metavar="GROUP[,...]|all", help="Move these groups' offsets to DEST."),
    ] = None,
    mark: Annotated[
        str | None, typer.Option("--mark", metavar="TOPIC", help="Copy nothing: print the topic's plain_before.")
    ] = None,
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
    """Copy a topic into another one, each record exactly once, by the rules of both. Run again, it goes on."""
    from kveil.proxy.cli.migrate_report import tell
    from kveil.proxy.migrate.errors import MigrateError
    from kveil.proxy.migrate.running import Order
    from kveil.proxy.server import run_loop

    settings = settings_from(Flags(config=config, upstream=upstream, keys=keys, tls=tls, tls_ca=tls_ca))
    try:
        if (mark is None) == (source is None or dest is None):
            _wrong("say SOURCE and DEST, or --mark TOPIC")
        shared = _share(settings, command_config, mark)
        if mark is not None:
            with still_at("asking the cluster"):
                code = run_loop(_mark(shared, settings, mark, as_json=as_json))
            raise typer.Exit(code)
        order = Order(
            source=source or "",
            dest=dest or "",
            to_plain=to_plain,
            follow=follow,
            rate_limit=None if rate_limit is None else rate_limit * _MB,
            offsets_map=offsets_map,
            groups=[name.strip() for name in (translate_groups or "").split(",") if name.strip()],
        )
        if dry_run:
            with still_at("asking the cluster"):
                code = run_loop(_dry_run(shared, order, as_json=as_json))
            raise typer.Exit(code)
        with audited("kveil migrate", settings):
            outcome: Outcome = run_loop(_migrate(shared, order))
        tell(order, outcome, as_json=as_json)
    except MigrateError as error:
        typer.echo(f"kveil: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    raise typer.Exit(0 if outcome.is_good else FAILED)


def _wrong(text: str) -> None:
    from kveil.proxy.migrate.errors import MigrateRefused

    raise MigrateRefused(text)


def _share(settings: "Settings", command_config: Path | None, mark: str | None) -> "Shared":
    """What the proxy has in common, for an operator: rules that name clients don't bind who has keys and rules."""
    from kveil.proxy import log
    from kveil.proxy.keys.opening import check_keys
    from kveil.proxy.migrate.client_properties import with_login
    from kveil.proxy.migrate.mark import as_stored
    from kveil.proxy.policy import Policy
    from kveil.proxy.server import share

    if command_config is not None:
        settings = with_login(settings, command_config)
    for_all = {"producers": None, "consumers": None}
    topics = tuple(rule.model_copy(update=for_all) for rule in settings.topics)
    settings = settings.model_copy(update={"topics": topics, "workers": 1})
    log.configure(settings.log.format.value, settings.log.level.value)
    if mark is not None:
        return share(as_stored(settings, mark))
    check_keys(settings, Policy(settings))
    return share(settings)


async def _migrate(shared: "Shared", order: "Order") -> "Outcome":
    import asyncio
    import signal

    from kveil.proxy.cli.migrate_report import telling
    from kveil.proxy.migrate.running import migrate as run

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, stopping, number)
    async with _keys_at_hand(shared):
        with telling() as teller:
            return await run(shared, order, teller, stopping)


@asynccontextmanager
async def _keys_at_hand(shared: "Shared") -> "AsyncIterator[None]":
    """Whoever keeps the keys can be asked until the block ends."""
    from kveil.proxy.net.following import following_announced

    try:
        if shared.announced_keys is None:
            yield
        else:
            async with following_announced(shared, shared.announced_keys):
                yield
    finally:
        await shared.keys.close()


def _stop(stopping: "asyncio.Event", number: int) -> None:
    """End in order; at the second signal at once."""
    import asyncio
    import signal

    if stopping.is_set():
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.raise_signal(number)
    stopping.set()


async def _dry_run(shared: "Shared", order: "Order", *, as_json: bool) -> int:
    from kveil.proxy.cli.migrate_report import describe, describe_groups
    from kveil.proxy.migrate.cluster import EARLIEST, LATEST, connected
    from kveil.proxy.migrate.running import look, preview_groups, try_keys

    async with _keys_at_hand(shared), connected(shared) as cluster:
        plan = await look(cluster, shared, order)
        await try_keys(cluster, shared, plan, order)
        ends = await cluster.offsets(plan.source, LATEST)
        begins = await cluster.offsets(plan.source, EARLIEST)
        begins |= {each: state.position for each, state in (plan.states or {}).items()}
        left = sum(max(0, end - begins[each]) for each, end in ends.items())
        found = describe(shared.policy, order, plan, left, await cluster.sizes(plan.source))
        found |= describe_groups(order, plan, await preview_groups(cluster, plan, order))
    typer.echo(json.dumps(found, indent=2) if as_json else "\n".join(f"{name}: {text}" for name, text in found.items()))
    return 0


async def _mark(shared: "Shared", settings: "Settings", topic: str, *, as_json: bool) -> int:
    from kveil.proxy.migrate.cluster import connected
    from kveil.proxy.migrate.mark import check_mark, find_mark
    from kveil.proxy.policy import Policy

    policy = Policy(settings)
    check_mark(policy, topic)
    try:
        async with connected(shared) as cluster:
            found = await find_mark(cluster, topic)
    finally:
        await shared.keys.close()
    if as_json:
        typer.echo(json.dumps({"topic": topic, "plain_before": found.ends}, indent=2))
        return 0
    typer.echo(found.text)
    now = f"{'sealed' if policy.rule_for(topic).seal else 'plain'} ({policy.matched_by(topic)})"
    typer.echo(
        f"{topic} is {now} by its present rule. Stop what writes plain before you take this mark: what is written "
        "plain after it can't be read.",
        err=True,
    )
    return 0
