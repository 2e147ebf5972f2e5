"""`kveil who-can-read`: whom a topic's keys go to."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kveil.proxy.cli import identities, options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.options import Flags, settings_from
from kveil.proxy.cli.telling import tell

if TYPE_CHECKING:
    from kveil.proxy.identity.enrolling import NodeReader

app = command_app()


@app.command()
def who_can_read(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="The topic.")],
    *,
    identity: identities.IdentityDirectory = None,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
    as_json: options.AsJson = False,
) -> None:
    """Say who gets a topic's keys by the newest checkpoint, and whom its producers really gave their newest one."""
    import asyncio

    from kveil.protocol.identity.marks import Kept
    from kveil.proxy import log
    from kveil.proxy.identity.node_files import NodeFiles
    from kveil.proxy.net.enrolment import Whom, read_view

    files = NodeFiles(identities.node_directory(identity, config))
    membership, mark = files.membership(), files.mark()
    settings = settings_from(Flags(config=config, upstream=upstream, tls=tls, tls_ca=tls_ca))
    log.configure(settings.log.format.value, "error")
    kept = Kept(*mark) if mark.number else None
    reader = asyncio.run(read_view(settings, Whom(membership.realm, membership.authority, kept)))
    shown = readers_of(reader, topic)
    tell(_as_text(shown), shown, as_json=as_json)


def readers_of(reader: "NodeReader", topic: str) -> dict[str, Any]:
    """Who may, and who was really given a key by each producer. Raises IdentityError."""
    import time

    from kveil.proxy.identity.authority_state import HISTORY_WORDS
    from kveil.proxy.identity.enrolling import check_clock

    now = int(time.time())
    check_clock(reader.view, now)
    live = reader.view.live()
    names = {subject: listed.credential.name for subject, listed in live.items()}
    recipients = reader.view.recipients(topic, now)
    entitled = {one.keys.id for one in recipients}
    return {
        "topic": topic,
        "checkpoint": reader.view.kept.number if reader.view.kept else 0,
        "readers": [
            {
                "name": names[one.keys.id],
                "fingerprint": one.keys.id.hex(),
                "as": "keeper" if one.history is None else "consumer",
                **({} if one.history is None else {"history": HISTORY_WORDS[one.history]}),
            }
            for one in recipients
        ],
        "producers": [
            {
                "name": names[producer],
                "left_out": sorted(names[one] for one in entitled - set(announced.recipients)),
                "others": sorted(names.get(one, one.hex()) for one in set(announced.recipients) - entitled),
            }
            for (producer, of_topic), announced in sorted(reader.announced.items(), key=lambda item: item[0])
            if of_topic == topic and producer in names
        ],
    }


def _as_text(shown: dict[str, Any]) -> str:
    lines = [f"{shown['topic']}, by checkpoint {shown['checkpoint']}:"]
    for one in shown["readers"]:
        history = f", history {one['history']}" if "history" in one else ""
        lines.append(f"  {one['name']}  {one['as']}{history}  {one['fingerprint']}")
    if not shown["readers"]:
        lines.append("  nobody: what is sealed now can't be opened by anyone")
    for one in shown["producers"]:
        if one["left_out"]:
            lines.append(f"producer {one['name']} has not given its newest key to: {', '.join(one['left_out'])}")
        if one["others"]:
            lines.append(f"producer {one['name']} gave its newest key also to: {', '.join(one['others'])}")
    return "\n".join(lines)
