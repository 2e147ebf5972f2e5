"""`kveil keys usage`: which key versions a topic still needs, before one is retired."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from kveil.proxy.cli import options
from kveil.proxy.cli.options import Flags, settings_from
from kveil.proxy.cli.scanning import ScanProgress, plainly, provider_name, when
from kveil.proxy.cli.telling import tell

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kveil.proxy.config import Settings
    from kveil.proxy.keys.provider import KeyDescription
    from kveil.proxy.keys.usage import ByPartition, Usage
    from kveil.proxy.policy import KeyRef

FAILED: Final = 1


def usage(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="The topic to read.")],
    *,
    start: Annotated[
        int, typer.Option("--from", metavar="OFFSET", min=0, help="Begin at this offset. [where the log begins]")
    ] = 0,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    keys: options.KeyPath = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
    as_json: options.AsJson = False,
) -> None:
    """Read a topic's envelopes, without opening them, and list the key versions that they need."""
    import asyncio

    from kveil.proxy import log
    from kveil.proxy.errors import QuestionFailed

    settings = settings_from(Flags(config=config, upstream=upstream, keys=keys, tls=tls, tls_ca=tls_ca))
    log.configure(settings.log.format.value, "error")
    try:
        shown = asyncio.run(_read(settings, topic, start))
    except QuestionFailed as error:
        typer.echo(f"kveil: {error}", err=True)
        raise typer.Exit(FAILED) from None
    tell("\n".join(_lines(shown)), shown, as_json=as_json)


async def _read(settings: "Settings", topic: str, start: int) -> dict[str, Any]:
    """All that was found, as JSON has it. Raises QuestionFailed."""
    from kveil.proxy.keys.opening import describe_keys, key_calls, open_providers
    from kveil.proxy.keys.usage import Usage
    from kveil.proxy.net.topic_scan import TopicScan
    from kveil.proxy.server import share

    shared = share(settings)
    scan = TopicScan(shared, topic)
    await scan.begin()
    found = Usage()
    progress = ScanProgress(topic, scan.partitions)
    async for partition, batch in scan.batches(start):
        found.add(partition, batch)
        progress.tell(partition)
    # Of the rule's own keys only: an envelope may name whatever a broker makes up.
    rule = shared.policy.rule_for(topic)
    async with key_calls(open_providers(settings, shared.policy), settings.keys) as calls:
        described = await describe_keys(calls, rule.accept_keys if rule.seal else ())
    return {
        "topic": topic,
        "from": start,
        "partitions": scan.partitions,
        "keys": list(_needed(found)),
        "not_needed": list(_not_needed(found, described)),
        "plain": _spans(found.plain),
        "unreadable": _spans(found.unreadable),
    }


def _needed(found: "Usage") -> "Iterator[dict[str, Any]]":
    for key, spans in sorted(found.keys.items()):
        named = {"provider": provider_name(key.provider), "name": key.name, "version": key.version}
        yield {**named, **_sums(spans), "partitions": _spans(spans)}


def _not_needed(found: "Usage", described: "Mapping[KeyRef, KeyDescription | str]") -> "Iterator[dict[str, Any]]":
    for key, said in described.items():
        named = {"provider": provider_name(key.provider), "name": key.name}
        if isinstance(said, str):
            yield {**named, "problem": said}
            continue
        needed = {ref.version for ref in found.keys if (ref.provider, ref.name) == key}
        if needed & {""}:
            yield {**named, "problem": "its envelopes don't say which version they need"}
        elif left := [version for version in said.versions if version not in needed]:
            yield {**named, "versions": left, "primary": said.primary}


def _sums(spans: "ByPartition") -> dict[str, int]:
    batches = sum(each.batches for each in spans.values())
    return {"batches": batches, "records": sum(each.records for each in spans.values())}


def _spans(spans: "ByPartition") -> list[dict[str, Any]]:
    from dataclasses import asdict

    return [{"partition": partition, **asdict(each)} for partition, each in sorted(spans.items())]


def _lines(shown: dict[str, Any]) -> "Iterator[str]":
    since = f" from offset {shown['from']} on" if shown["from"] else ""
    yield f"{shown['topic']}: {shown['partitions']} partitions{since}"
    for key in shown["keys"]:
        # Quoted where it isn't plain: an envelope may name anything.
        version = f" version {plainly(key['version'])}" if key["version"] else ""
        name = f"{key['provider']}:{plainly(key['name'])}"
        yield f"needed: {name}{version}, {key['batches']} batches, {key['records']} records"
        yield from map(_span, key["partitions"])
    for key in shown["not_needed"]:
        name = f"{key['provider']}:{key['name']}"
        if "problem" in key:
            yield f"can't tell which versions of {name} there are: {key['problem']}"
            continue
        versions = [f"{one} (seals now)" if one == key["primary"] else one for one in key["versions"]]
        yield f"needed nowhere here{since}: {name} version {', '.join(versions)}"
    for kind in ("plain", "unreadable"):
        if spans := shown[kind]:
            yield f"{kind}: {sum(span['batches'] for span in spans)} batches"
            yield from map(_span, spans)
    yield "Other topics may need what this one doesn't: look at each before a version is retired."


def _span(span: dict[str, Any]) -> str:
    times = " to ".join(when(span[name]) for name in ("oldest", "newest"))
    offsets = f"offsets {span['first_offset']} to {span['last_offset']}"
    return f"  partition {span['partition']}: {span['batches']} batches, {span['records']} records, {offsets}, {times}"
