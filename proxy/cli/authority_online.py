"""The commands of `kveil authority` that write to the control topic, or a file for it, and what all of them share."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kveil.proxy.cli import authority_work, identities, options
from kveil.proxy.cli.auditing import audited
from kveil.proxy.cli.options import Flags, settings_from
from kveil.proxy.cli.telling import still_at, tell

if TYPE_CHECKING:
    from kveil.protocol.identity.credential import Grant
    from kveil.protocol.identity.identity import Identity
    from kveil.proxy.config import Settings
    from kveil.proxy.identity.authority import Authority
    from kveil.proxy.identity.authority_reader import AuthorityReader
    from kveil.proxy.identity.authority_store import AuthorityStore
    from kveil.proxy.net.authority import AuthorityAtWork

_MOST_ANSWER_BYTES: Final = 4_096


def run(
    *,
    approve: Annotated[
        bool, typer.Option("--approve", help="Ask on the terminal before a ticket lets somebody in.")
    ] = False,
    directory: identities.AuthorityDirectory = None,
    passphrase: identities.Passphrase = None,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
    log_level: options.LogLevel = None,
    log_format: options.LogFormat = None,
) -> None:
    """Let nodes with tickets in, renew credentials and sign checkpoints, until it is stopped."""
    import asyncio

    from kveil.proxy import log
    from kveil.proxy.identity.errors import IdentityError

    flags = Flags(config=config, upstream=upstream, tls=tls, tls_ca=tls_ca, log_level=log_level, log_format=log_format)
    settings = settings_from(flags)
    log.configure(settings.log.format.value, settings.log.level.value)
    if approve and not sys.stdin.isatty():
        raise IdentityError("--approve asks on a terminal, and standard input is none")
    store, keys = authority_work.opened(directory, passphrase)
    with store.running(), audited("kveil authority run", settings):
        asyncio.run(_run(settings, store, keys, approve=approve))


async def _run(settings: "Settings", store: "AuthorityStore", keys: "Identity", *, approve: bool) -> None:
    import asyncio
    import signal

    from kveil.proxy.log import get_logger
    from kveil.proxy.net.command_port import command_port

    log = get_logger(__name__)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)

    async def serve(at_work: "AuthorityAtWork", _: object) -> None:
        state = store.load(keys)
        log.info("authority_running", realm=state.realm, fingerprint=keys.id.hex(), members=len(state.members))
        async with command_port(settings, at_work.samples, lambda: at_work.trouble):
            await at_work.run(stopping, _ask if approve else None)
        log.info("stopped")

    await authority_work.at_topic(settings, store, keys, serve)


async def _ask(name: str, subject: bytes, grants: "tuple[Grant, ...]") -> bool:
    import asyncio
    import os

    from kveil.proxy.identity.authority_state import grants_to_json

    shown = identities.grants_as_text(grants_to_json(grants))
    typer.echo(f"{identities.fingerprint(subject)}\nwants in as {name}: {shown}", err=True)
    typer.echo("Is that the fingerprint that its host shows, and may it? [y/N]: ", nl=False, err=True)
    # By the event loop: a thread that waits at a terminal would keep the program from ending.
    loop, answer = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), answer.set)
    try:
        await answer.wait()
        return os.read(sys.stdin.fileno(), _MOST_ANSWER_BYTES).strip().lower() in {b"y", b"yes"}
    finally:
        loop.remove_reader(sys.stdin.fileno())


def grant(
    fingerprint: Annotated[
        str, typer.Argument(metavar="FINGERPRINT", help="Of whom, as `kveil identity show` says on its host.")
    ],
    *,
    role: identities.Roles,
    topics: identities.Topics,
    history: identities.History = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What the member is to be called. [role and number]")
    ] = None,
    identity: Annotated[
        Path | None,
        typer.Option("--identity", metavar="FILE", help="Its public keys, as `kveil enroll --out` wrote them."),
    ] = None,
    out: identities.Out = None,
    directory: identities.AuthorityDirectory = None,
    passphrase: identities.Passphrase = None,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
    as_json: options.AsJson = False,
) -> None:
    """Make whoever has this fingerprint a member, or let a member do more. Nothing secret travels."""
    subject = identities.check_fingerprint(fingerprint)
    grants = identities.grants_of(role, topics, history)

    def work(reader: "AuthorityReader | None") -> Callable[["Authority"], None]:
        def granting(authority: "Authority") -> None:
            authority.grant(authority_work.keys_of(subject, identity, authority.state.realm, reader), grants, name)

        return granting

    flags = Flags(config=config, upstream=upstream, tls=tls, tls_ca=tls_ca)
    state = authority_work.decided("kveil authority grant", flags, directory, passphrase, work, out=out)
    member = state.member(subject)
    assert member is not None
    credential = member.credential
    shown = {
        "name": credential.name,
        "fingerprint": subject.hex(),
        "serial": credential.serial,
        **authority_work.checkpoint_of(state),
    }
    tell(f"{credential.name} is a member, by checkpoint {state.latest.kept.number}.", shown, as_json=as_json)


def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The member, as `kveil authority list` has it.")],
    *,
    now: Annotated[
        bool,
        typer.Option("--now", help="Don't ask a producer first how far it is: somebody else may have its keys."),
    ] = False,
    out: identities.Out = None,
    directory: identities.AuthorityDirectory = None,
    passphrase: identities.Passphrase = None,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
    as_json: options.AsJson = False,
) -> None:
    """End a member, for ever: it gets no more keys, and what it seals from now on counts for nobody."""
    from kveil.proxy.identity.errors import IdentityError

    asked: list[int | None] = []
    silent: list[str] = []

    async def ask(at_work: "AuthorityAtWork") -> None:
        with still_at(f"asking {name} how far it is"):
            asked.append(await at_work.ask(name))

    def work(reader: "AuthorityReader | None") -> Callable[["Authority"], None]:
        def revoking(authority: "Authority") -> None:
            ended = authority_work.end_of(authority.state, name, reader)
            if reader is not None and ended is not None:
                silent.extend(authority_work.silent_of(reader.last_words(ended.id), asked[0] if asked else None))
            authority.revoke(name, ended)

        return revoking

    flags = Flags(config=config, upstream=upstream, tls=tls, tls_ca=tls_ca)
    reads_topic = bool(config or upstream)
    try:
        state = authority_work.decided(
            "kveil authority revoke",
            flags,
            directory,
            passphrase,
            work,
            out=out,
            reads_topic=reads_topic,
            before=None if now else ask,
        )
    except authority_work.TopicWantedError:
        raise IdentityError(
            f"{name} is a producer: what it sealed counts as far as the control topic says that it went, so the topic "
            "must be read: give --upstream or --config beside --out"
        ) from None
    text = f"{name} was revoked, by checkpoint {state.latest.kept.number}. Whatever it has read, it keeps."
    if silent:
        why = "didn't answer" if asked else "weren't asked"
        text += f"\n{len(silent)} of its processes {why}. What they sealed after their last word doesn't count: "
        text += f"that was at {', '.join(silent)}."
    shown = {"name": name, **authority_work.checkpoint_of(state), "unanswered": silent}
    tell(text, shown, as_json=as_json)


def checkpoint(
    *,
    all_again: Annotated[
        bool, typer.Option("--all", help="Write credentials again too: the topic was lost, or made anew.")
    ] = False,
    out: identities.Out = None,
    directory: identities.AuthorityDirectory = None,
    passphrase: identities.Passphrase = None,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
    as_json: options.AsJson = False,
) -> None:
    """Sign the next checkpoint, which renews the lease of all producers, and credentials that are getting old."""
    flags = Flags(config=config, upstream=upstream, tls=tls, tls_ca=tls_ca)
    state = authority_work.decided(
        "kveil authority checkpoint",
        flags,
        directory,
        passphrase,
        lambda _: lambda _: None,
        out=out,
        force=True,
        all_again=all_again,
    )
    shown = authority_work.checkpoint_of(state)
    tell(f"Checkpoint {shown['checkpoint']}, until {shown['expires']}.", shown, as_json=as_json)


def publish(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="What `--out` of another command wrote.")],
    *,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
    as_json: options.AsJson = False,
) -> None:
    """Write a file of records to the control topic. It takes no private key, and nothing in the file is secret."""
    import asyncio

    from kveil.proxy.identity.errors import IdentityError
    from kveil.proxy.identity.records_file import decode_records
    from kveil.proxy.net.publishing import publish_records

    try:
        content = decode_records(identities.read_file(path, "the file"))
    except IdentityError as error:
        raise IdentityError(f"{path} {error}") from None
    settings = settings_from(Flags(config=config, upstream=upstream, tls=tls, tls_ca=tls_ca))
    authority_work.log_audit()
    count = asyncio.run(publish_records(settings, content))
    tell(
        f"Wrote {count} records of realm {content.realm}.", {"records": count, "realm": content.realm}, as_json=as_json
    )
