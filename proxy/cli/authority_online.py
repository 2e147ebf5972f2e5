"""The commands of `kveil authority` that write to the control topic, or a file for it, and what all of them share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kveil.proxy.cli import identities, options
from kveil.proxy.cli.options import Flags, settings_from
from kveil.proxy.cli.telling import tell

if TYPE_CHECKING:
    from kveil.protocol.identity.checkpoint import Ended
    from kveil.protocol.identity.credential import Grant
    from kveil.protocol.identity.identity import Identity, PublicKeys
    from kveil.proxy.config import Settings
    from kveil.proxy.identity.authority import Authority
    from kveil.proxy.identity.authority_reader import AuthorityReader
    from kveil.proxy.identity.authority_state import AuthorityState
    from kveil.proxy.identity.authority_store import AuthorityStore
    from kveil.proxy.net.authority import AuthorityAtWork

Work = Callable[["AuthorityReader | None"], Callable[["Authority"], None]]
"""What is to be decided, by what the topic says; None where it isn't read."""


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

    flags = Flags(config=config, upstream=upstream, tls=tls, tls_ca=tls_ca, log_level=log_level, log_format=log_format)
    settings = settings_from(flags)
    log.configure(settings.log.format.value, settings.log.level.value)
    store, keys = opened(directory, passphrase)
    with store.running():
        asyncio.run(_run(settings, store, keys, approve=approve))


async def _run(settings: "Settings", store: "AuthorityStore", keys: "Identity", *, approve: bool) -> None:
    import asyncio
    import signal

    from kveil.proxy.log import get_logger

    log = get_logger(__name__)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)

    async def serve(at_work: "AuthorityAtWork", _: object) -> None:
        state = store.load(keys)
        log.info("authority_running", realm=state.realm, fingerprint=keys.id.hex(), members=len(state.members))
        await at_work.run(stopping, _ask if approve else None)
        log.info("stopped")

    await _at_work(settings, store, keys, serve)


def _ask(name: str, subject: bytes, grants: "tuple[Grant, ...]") -> bool:
    from kveil.proxy.identity.authority_state import grants_to_json

    shown = identities.grants_as_text(grants_to_json(grants))
    typer.echo(f"{identities.fingerprint(subject)}\nwants in as {name}: {shown}", err=True)
    try:
        return typer.confirm("Is that the fingerprint that its host shows, and may it?", err=True)
    except typer.Abort:
        return False  # there is no terminal, or nobody at it


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
            authority.grant(_keys_of(subject, identity, authority.state.realm, reader), grants, name)

        return granting

    flags = Flags(config=config, upstream=upstream, tls=tls, tls_ca=tls_ca)
    state = _decided(flags, directory, passphrase, work, out=out)
    member = state.member(subject)
    assert member is not None
    credential = member.credential
    shown = {"name": credential.name, "fingerprint": subject.hex(), "serial": credential.serial, **_checkpoint(state)}
    tell(f"{credential.name} is a member, by checkpoint {state.latest.kept.number}.", shown, as_json=as_json)


def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The member, as `kveil authority list` has it.")],
    *,
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

    def work(reader: "AuthorityReader | None") -> Callable[["Authority"], None]:
        def revoking(authority: "Authority") -> None:
            authority.revoke(name, _end_of(authority.state, name, reader))

        return revoking

    flags = Flags(config=config, upstream=upstream, tls=tls, tls_ca=tls_ca)
    reads_topic = bool(config or upstream)
    try:
        state = _decided(flags, directory, passphrase, work, out=out, reads_topic=reads_topic)
    except _TopicWantedError:
        raise IdentityError(
            f"{name} is a producer: what it sealed counts as far as the control topic says that it went, so the topic "
            "must be read: give --upstream or --config beside --out"
        ) from None
    text = f"{name} was revoked, by checkpoint {state.latest.kept.number}. Whatever it has read, it keeps."
    tell(text, {"name": name, **_checkpoint(state)}, as_json=as_json)


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
    state = _decided(flags, directory, passphrase, lambda _: lambda _: None, out=out, force=True, all_again=all_again)
    shown = _checkpoint(state)
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
    log_audit()
    count = asyncio.run(publish_records(settings, content))
    tell(
        f"Wrote {count} records of realm {content.realm}.", {"records": count, "realm": content.realm}, as_json=as_json
    )


# What they share ------------------------------------------------------------------------------------------------------


class _TopicWantedError(Exception):
    """It can't be decided without the topic."""


def log_audit() -> None:
    """Write audit lines to standard error, as services do."""
    from kveil.proxy import log

    log.configure("auto", "info")


def opened(directory: Path | None, passphrase: str | None) -> "tuple[AuthorityStore, Identity]":
    """The authority's directory and keys. Raises IdentityError."""
    from kveil.proxy.identity.authority_store import AuthorityStore

    store = AuthorityStore(identities.authority_directory(directory))
    return store, store.keys(identities.passphrase_of(passphrase))


def load(directory: Path | None, passphrase: str | None) -> "tuple[AuthorityState, Identity]":
    """What the authority knows. Raises IdentityError."""
    store, keys = opened(directory, passphrase)
    return store.load(keys), keys


def decide_offline(
    directory: Path | None, passphrase: str | None, work: Callable[["Authority"], None], *, force: bool = False
) -> "tuple[AuthorityState, Identity]":
    """Decide without the topic. Raises IdentityError."""
    from kveil.proxy.net.authority import decide

    log_audit()
    store, keys = opened(directory, passphrase)
    state, _ = decide(store, keys, work, force=force)
    return state, keys


def _decided(
    flags: Flags,
    directory: Path | None,
    passphrase: str | None,
    work: Work,
    *,
    out: Path | None,
    reads_topic: bool = True,
    force: bool = False,
    all_again: bool = False,
) -> "AuthorityState":
    """Decide, and publish or write the file. With a file the topic is read only where `flags` say where it is."""
    import asyncio

    from kveil.proxy.identity.owed import everything

    if out is not None and not (reads_topic and (flags.config or flags.upstream)):
        state, keys = decide_offline(directory, passphrase, work(None), force=force)
        identities.write_records(out, state.realm, everything(keys, state))
        return state
    settings = settings_from(flags)
    log_audit()
    store, keys = opened(directory, passphrase)
    found: list[AuthorityState] = []

    async def once(at_work: "AuthorityAtWork", reader: "AuthorityReader") -> None:
        found.append(await at_work.decide(work(reader), force=force, all_again=all_again, publishes=out is None))

    asyncio.run(_at_work(settings, store, keys, once))
    if out is not None:
        identities.write_records(out, found[0].realm, everything(keys, found[0]))
    return found[0]


async def _at_work(settings: "Settings", store: "AuthorityStore", keys: "Identity", serve: Callable[..., Any]) -> None:
    from kveil.proxy.identity.authority_reader import AuthorityReader
    from kveil.proxy.net.authority import AuthorityAtWork
    from kveil.proxy.net.control import control_topic

    reader = AuthorityReader(keys.public, store.load(keys))
    async with control_topic(settings, reader, make=True) as log:
        await serve(AuthorityAtWork(store, keys, reader, log), reader)


def _keys_of(subject: bytes, path: Path | None, realm: str, reader: "AuthorityReader | None") -> "PublicKeys":
    """The public keys behind a fingerprint. Raises IdentityError."""
    from kveil.protocol.identity.errors import IdentityError as ProtocolError
    from kveil.protocol.identity.record import IdentityRecord
    from kveil.proxy.identity.errors import IdentityError
    from kveil.proxy.identity.records_file import decode_records

    if path is not None:
        content = decode_records(identities.read_file(path, "the file"))
        for signed, body in content.records:
            if isinstance(body, IdentityRecord) and body.keys.id == subject and content.realm == realm:
                try:
                    signed.verify(body.keys)
                except ProtocolError as error:
                    raise IdentityError(f"{path}: {error.reason}") from None
                return body.keys
        raise IdentityError(f"{path} doesn't have the keys of this fingerprint for realm {realm}")
    if reader is None:
        raise IdentityError("its public keys are needed: --identity FILE, which `kveil enroll --out FILE` writes there")
    if (keys := reader.identity(subject)) is not None:
        return keys
    raise IdentityError(
        "nobody with this fingerprint has asked: run `kveil enroll --authority` with the authority's fingerprint on "
        "that host first, or compare the fingerprint again"
    )


def _end_of(state: "AuthorityState", name: str, reader: "AuthorityReader | None") -> "Ended | None":
    from kveil.proxy.identity.authority import produces

    member = state.named(name)
    if member is None or not produces(member):
        return None
    if reader is None:
        raise _TopicWantedError
    return reader.end_of(member.credential.subject)


def _checkpoint(state: "AuthorityState") -> dict[str, Any]:
    from kveil.proxy.identity.moments import moment

    return {"checkpoint": state.latest.kept.number, "expires": moment(state.latest.checkpoint.expires)}


def listing(state: "AuthorityState") -> dict[str, Any]:
    """All that can be told of a realm."""
    import time

    from kveil.proxy.identity.authority_state import grants_to_json
    from kveil.proxy.identity.moments import moment

    now = time.time()
    newest = state.latest
    return {
        "realm": state.realm,
        "fingerprint": newest.signed.signer.hex(),
        "checkpoint": {"number": newest.kept.number, "expires": moment(newest.checkpoint.expires)},
        "members": [
            {
                "name": one.name,
                "fingerprint": one.subject.hex(),
                "serial": one.serial,
                "grants": grants_to_json(one.grants),
                "expires": moment(one.expires),
            }
            for one, _ in sorted(state.members, key=lambda member: member.credential.name)
        ],
        "revoked": [
            {"name": one.name, "fingerprint": one.id.hex(), "serial": one.serial, "at": moment(one.at)}
            for one in state.revoked
        ],
        "tickets": [
            {
                "id": one.id.hex(),
                "grants": grants_to_json(one.grants),
                "expires": moment(one.expires),
                "uses_left": one.uses - len(one.used_by),
            }
            for one in state.tickets
            if now <= one.expires and not one.is_used_up
        ],
    }
