"""`kveil prepare`: leave room in topics for what sealing adds."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from kveil.proxy.cli import options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.options import Flags, settings_from
from kveil.proxy.cli.telling import still_at
from kveil.proxy.topics import DEFAULT_MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kveil.proxy.config import Settings
    from kveil.proxy.policy import Policy
    from kveil.proxy.topics import TopicSettings

app = command_app()

FAILED: Final = 1
WRONG_USE: Final = 2


@app.command()
def prepare(
    topics: Annotated[list[str], typer.Argument(metavar="TOPIC...", help="Topics to prepare.")],
    *,
    batch_bytes: Annotated[
        int,
        typer.Option("--batch-bytes", metavar="N", min=1, help="The largest batch that producers send, in bytes."),
    ] = DEFAULT_MAX_MESSAGE_BYTES,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    keys: options.KeyPath = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
    as_json: options.AsJson = False,
) -> None:
    """Raise the topics' max.message.bytes, so that the largest batches fit once sealed. Shows it before."""
    import asyncio

    from kveil.proxy import log

    settings = settings_from(Flags(config=config, upstream=upstream, keys=keys, tls=tls, tls_ca=tls_ca))
    log.configure(settings.log.format.value, "warning")
    raise typer.Exit(asyncio.run(_prepare(settings, topics, batch_bytes, yes=yes, as_json=as_json)))


async def _prepare(settings: "Settings", topics: list[str], batch_bytes: int, *, yes: bool, as_json: bool) -> int:
    from kveil.proxy.errors import QuestionFailed
    from kveil.proxy.net.own_client import own_client
    from kveil.proxy.net.topic_admin import describe_topics, set_message_limit
    from kveil.proxy.server import share

    shared = share(settings)
    try:
        async with own_client(shared) as client:
            with still_at("asking the cluster"):
                found = await describe_topics(client, topics)
            limits = _limits(found, shared.policy, batch_bytes)
            low = {topic: limit for topic, limit in limits.items() if limit.now < limit.wanted}
            if not as_json:
                typer.echo(_as_text(found, limits))
            unknown = len(found) - len(limits)
            if unknown:
                return FAILED
            if low and not (yes or _agrees()):
                return WRONG_USE
            for topic, limit in low.items():
                await set_message_limit(client, topic, limit.wanted)
    except QuestionFailed as error:
        typer.echo(f"kveil: {error}", err=True)
        return FAILED
    if as_json:
        typer.echo(
            json.dumps(
                {"topics": {topic: {"before": each.now, "after": each.wanted} for topic, each in low.items()}}, indent=2
            )
        )
    elif low:
        typer.echo("Done.")
    return 0


class _Limit(NamedTuple):
    """A topic's max.message.bytes."""

    now: int
    wanted: int


def _limits(found: "Mapping[str, TopicSettings | Exception]", policy: "Policy", batch_bytes: int) -> dict[str, _Limit]:
    """The limits of the topics whose settings could be read."""
    from kveil.proxy.apis.sealing import limit_with_room, sealing_mode
    from kveil.proxy.topics import TopicSettings

    limits = {}
    for topic, settings in found.items():
        if isinstance(settings, TopicSettings) and settings.max_message_bytes is not None:
            rule = policy.rule_for(topic)
            mode, is_announced = sealing_mode(rule.mode, settings), rule.is_sealed_announced
            room = limit_with_room(batch_bytes, mode, is_announced=is_announced)
            limits[topic] = _Limit(settings.max_message_bytes, room)
    return limits


def _as_text(found: "Mapping[str, TopicSettings | Exception]", limits: "Mapping[str, _Limit]") -> str:
    lines = []
    for topic, settings in found.items():
        if topic not in limits:
            reason = settings if isinstance(settings, Exception) else settings.unreadable
            lines.append(f"{topic}: its settings can't be read: {reason}")
            continue
        now, wanted = limits[topic]
        if now < wanted:
            lines.append(f"{topic}: max.message.bytes {now} -> {wanted}")
        else:
            lines.append(f"{topic}: max.message.bytes {now} leaves room already")
    return "\n".join(lines)


def _agrees() -> bool:
    if sys.stdin.isatty():
        return typer.confirm("Change this on the cluster?", err=True)
    typer.echo("kveil: nothing was changed: --yes changes it without asking", err=True)
    return False
