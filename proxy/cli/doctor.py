"""`kveil doctor`: can the cluster be reached with this configuration, and what of it will make trouble."""

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kveil.proxy.cli import options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.options import Flags, settings_from

if TYPE_CHECKING:
    from kveil.proxy.config import Settings
    from kveil.proxy.policy import Policy
    from kveil.proxy.topics import TopicSettings

app = command_app()

FAILED: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    about: str
    ok: bool
    text: str


@app.command()
def doctor(
    topics: Annotated[list[str] | None, typer.Argument(metavar="TOPIC", help="Topics to look at.")] = None,
    *,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    keys: options.KeyPath = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
    as_json: options.AsJson = False,
) -> None:
    """Connect to the cluster, and say what of the topics named will make trouble. Changes nothing."""
    import asyncio

    from kveil.proxy import log

    settings = settings_from(Flags(config=config, upstream=upstream, keys=keys, tls=tls, tls_ca=tls_ca))
    log.configure(settings.log.format.value, "warning")
    findings = asyncio.run(_examine(settings, topics or []))
    ok = all(finding.ok for finding in findings)
    if as_json:
        typer.echo(json.dumps({"ok": ok, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        typer.echo("\n".join(f"{'ok     ' if one.ok else 'WARNING'} {one.about}: {one.text}" for one in findings))
    raise typer.Exit(0 if ok else FAILED)


async def _examine(settings: "Settings", topics: list[str]) -> list[Finding]:
    from kveil.protocol.kafka.api_table import ApiKey
    from kveil.proxy.errors import QuestionFailed
    from kveil.proxy.net.own_client import own_client
    from kveil.proxy.net.topic_admin import describe_topics
    from kveil.proxy.server import share

    shared = share(settings)
    try:
        async with own_client(shared) as client:
            cluster = await client.ask(ApiKey.DESCRIBE_CLUSTER, {})
            if cluster.error_code:
                raise QuestionFailed(f"the broker answered {cluster.error_code.name}")
            found = await describe_topics(client, topics) if topics else {}
    except QuestionFailed as error:
        return [Finding(about="cluster", ok=False, text=str(error))]
    text = f"{cluster.cluster_id}, {len(cluster.brokers)} brokers, as {_login(settings)}"
    findings = [Finding(about="cluster", ok=True, text=text)]
    for topic, topic_settings in found.items():
        findings += _look_at(topic, topic_settings, shared.policy)
    return findings


def _login(settings: "Settings") -> str:
    return "nobody" if settings.upstream.sasl is None else f"{settings.upstream.sasl.mechanism} user"


def _look_at(topic: str, settings: "TopicSettings | Exception", policy: "Policy") -> list[Finding]:
    from kveil.proxy.apis.sealing import limit_with_room, sealing_mode
    from kveil.proxy.config import Mode
    from kveil.proxy.topics import DEFAULT_MAX_MESSAGE_BYTES

    if isinstance(settings, Exception):
        return [Finding(about=topic, ok=False, text=f"its settings can't be read: {settings}")]
    rule = policy.rule_for(topic)
    if not rule.seal:
        return [Finding(about=topic, ok=True, text=f"PLAIN ({policy.matched_by(topic)})")]
    troubles = []
    if settings.unreadable and rule.mode is Mode.AUTO:
        troubles.append(
            f"its settings can't be read ({settings.unreadable}), so its records are sealed one by one: grant "
            "DESCRIBE_CONFIGS, or pin the mode in its rule"
        )
    if settings.is_compacted and rule.mode is Mode.BATCH:
        troubles.append("it is compacted, and its rule says mode: batch: the broker refuses what has no key")
    limit = settings.max_message_bytes
    needed = limit_with_room(DEFAULT_MAX_MESSAGE_BYTES, sealing_mode(rule.mode, settings))
    if limit is not None and limit < needed and not rule.raise_message_limit:
        troubles.append(
            f"max.message.bytes {limit} leaves no room for what sealing adds to the largest batches; those that don't "
            f"shrink are refused: `kveil prepare {topic}`"
        )
    if troubles:
        return [Finding(about=topic, ok=False, text=text) for text in troubles]
    return [Finding(about=topic, ok=True, text=f"sealed ({policy.matched_by(topic)})")]
