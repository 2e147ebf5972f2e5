"""How the commands of `kveil authority` come to a decision: without the cluster, or by what its control topic says."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kveil.proxy.cli import identities
from kveil.proxy.cli.auditing import audited, audited_by_file
from kveil.proxy.cli.options import Flags, settings_from

if TYPE_CHECKING:
    from kveil.protocol.identity.checkpoint import Ended
    from kveil.protocol.identity.identity import Identity, PublicKeys
    from kveil.proxy.config import Settings
    from kveil.proxy.identity.authority import Authority
    from kveil.proxy.identity.authority_reader import AuthorityReader, LastWord
    from kveil.proxy.identity.authority_state import AuthorityState
    from kveil.proxy.identity.authority_store import AuthorityStore
    from kveil.proxy.net.authority import AuthorityAtWork

Work = Callable[["AuthorityReader | None"], Callable[["Authority"], None]]
"""What is to be decided, by what the topic says; None where it isn't read."""


class TopicWantedError(Exception):
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


def decided(
    operation: str,
    flags: Flags,
    directory: Path | None,
    passphrase: str | None,
    work: Work,
    *,
    out: Path | None,
    reads_topic: bool = True,
    force: bool = False,
    all_again: bool = False,
    before: "Callable[[AuthorityAtWork], Awaitable[None]] | None" = None,
) -> "AuthorityState":
    """Decide, and publish or write the file. With a file the topic is read only where `flags` say where it is.

    `operation` is the command, for the audit; `before` is what must be on the topic first.
    """
    import asyncio

    from kveil.proxy.identity.owed import everything

    if out is not None and not (reads_topic and (flags.config or flags.upstream)):
        with audited_by_file(operation, flags.config):
            state, keys = decide_offline(directory, passphrase, work(None), force=force)
        identities.write_records(out, state.realm, everything(keys, state))
        return state
    settings = settings_from(flags)
    log_audit()
    store, keys = opened(directory, passphrase)
    found: list[AuthorityState] = []

    async def once(at_work: "AuthorityAtWork", reader: "AuthorityReader") -> None:
        if before is not None and out is None:
            await before(at_work)
        found.append(await at_work.decide(work(reader), force=force, all_again=all_again, publishes=out is None))

    with audited(operation, settings):
        asyncio.run(at_topic(settings, store, keys, once))
    if out is not None:
        identities.write_records(out, found[0].realm, everything(keys, found[0]))
    return found[0]


async def at_topic(settings: "Settings", store: "AuthorityStore", keys: "Identity", serve: Callable[..., Any]) -> None:
    from kveil.proxy.identity.authority_reader import AuthorityReader
    from kveil.proxy.net.authority import AuthorityAtWork
    from kveil.proxy.net.control import control_topic

    reader = AuthorityReader(keys.public, store.load(keys))
    async with control_topic(settings, reader, make=True) as log:
        await serve(AuthorityAtWork(store, keys, reader, log), reader)


def keys_of(subject: bytes, path: Path | None, realm: str, reader: "AuthorityReader | None") -> "PublicKeys":
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


def silent_of(words: "Sequence[LastWord]", asked: int | None) -> list[str]:
    """When those processes spoke last that may have sealed more since, in order."""
    from kveil.proxy.identity.moments import moment

    silent = [one.said for one in words if not one.is_over and (asked is None or not one.answers(asked))]
    return [moment(said) for said in sorted(silent)]


def end_of(state: "AuthorityState", name: str, reader: "AuthorityReader | None") -> "Ended | None":
    from kveil.proxy.identity.authority import produces

    member = state.named(name)
    if member is None or not produces(member):
        return None
    if reader is None:
        raise TopicWantedError
    return reader.end_of(member.credential.subject)


def checkpoint_of(state: "AuthorityState") -> dict[str, Any]:
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
