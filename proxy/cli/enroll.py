"""`kveil enroll`: make this host a member of a realm."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kveil.proxy.cli import identities, options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.auditing import audited
from kveil.proxy.cli.options import Flags, settings_from
from kveil.proxy.cli.telling import tell, warn

if TYPE_CHECKING:
    from kveil.proxy.config import Settings
    from kveil.proxy.identity.enrolling import Enrolled
    from kveil.proxy.identity.identity_file import Protection
    from kveil.proxy.net.enrolment import Whom

app = command_app()


@app.command()
def enroll(
    ticket: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The ticket's file, or - for standard input.")
    ] = None,
    *,
    authority: Annotated[
        str | None,
        typer.Option(
            "--authority", metavar="FINGERPRINT", help="Without a ticket: whom to belong to, who then grants."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="With a ticket: what the member is to be called.")
    ] = None,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=1, max=86_400, help="How long to wait for the authority.")
    ] = 60,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="With --authority: only write the public keys to a file, for `authority grant`.",
        ),
    ] = None,
    identity: identities.IdentityDirectory = None,
    passphrase: identities.Passphrase = None,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
    as_json: options.AsJson = False,
) -> None:
    """Make this host's identity, whose keys never leave it, and become a member: by a ticket, or by a grant."""
    import asyncio

    from kveil.proxy.cli.authority_work import log_audit
    from kveil.proxy.identity.errors import IdentityError
    from kveil.proxy.net.enrolment import check_not_enrolled, enrol

    directory, protection = identities.node_place(identity, passphrase, config)
    check_not_enrolled(directory)
    if (ticket is None) == (authority is None):
        raise IdentityError("give a ticket's FILE, or --authority with the authority's fingerprint")
    if (out is not None and authority is None) or (name is not None and ticket is None):
        raise IdentityError("--out goes with --authority, and --name with a ticket")
    settings = settings_from(Flags(config=config, upstream=upstream, tls=tls, tls_ca=tls_ca))
    log_audit()
    whom = asyncio.run(_whom(settings, ticket, authority))
    if out is not None:
        asyncio.run(_write_keys(settings, directory, protection, whom, out))
        warn(f"Wrote {out}. Once the grant is published, run this again without --out.", as_json=as_json)
        return

    def asked(subject: bytes) -> None:
        if authority is not None:
            warn(f"fingerprint of this host, for the authority: {identities.fingerprint(subject)}", as_json=True)

    with audited("kveil enroll", settings):
        enrolled = asyncio.run(enrol(settings, directory, protection, whom, name=name, seconds=wait, tell=asked))
    _tell(whom, enrolled, directory, as_json=as_json)


async def _whom(settings: "Settings", ticket: Path | None, authority: str | None) -> "Whom":
    import time

    from kveil.proxy.identity.enrolling import read_ticket
    from kveil.proxy.net.enrolment import Whom, find_realm

    if ticket is None:
        return await find_realm(settings, identities.check_fingerprint(authority or ""))
    text = identities.read_file(ticket, "the ticket").decode(errors="replace")
    found = read_ticket(text, int(time.time()))
    return Whom(found.realm, found.authority, found.checkpoint, found)


async def _write_keys(settings: "Settings", directory: Path, protection: "Protection", whom: "Whom", out: Path) -> None:
    from kveil.proxy.identity.enrolling import authority_keys
    from kveil.proxy.net.enrolment import identity_for, own_record, read_view

    reader = await read_view(settings, whom)
    node = identity_for(directory, protection, authority_keys(reader.view))
    identities.write_records(out, whom.realm, [own_record(node, whom.realm)])


def _tell(whom: "Whom", enrolled: "Enrolled", directory: Path, *, as_json: bool) -> None:
    from kveil.proxy.identity.authority_state import grants_to_json
    from kveil.proxy.identity.moments import moment

    credential = enrolled.credential
    grants = grants_to_json(credential.grants)
    shown = {
        "realm": whom.realm,
        "name": credential.name,
        "fingerprint": credential.subject.hex(),
        "directory": str(directory),
        "grants": grants,
        "expires": moment(credential.expires),
    }
    text = (
        f"Enrolled as {credential.name} in realm {whom.realm}: {identities.grants_as_text(grants)}\n"
        f"fingerprint: {identities.fingerprint(credential.subject)}\n{directory}"
    )
    tell(text, shown, as_json=as_json)
