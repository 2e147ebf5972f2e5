"""`kveil authority`: who is a member of a realm. Nothing shows a private key, and only standard output a ticket."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kveil.proxy.cli import authority_online, authority_work, identities, options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.taken_over import taken_over
from kveil.proxy.cli.telling import tell, warn

if TYPE_CHECKING:
    from kveil.proxy.identity.authority import Authority
    from kveil.proxy.identity.authority_state import AuthorityState

app = command_app()

_NEXT: Final = (
    "Keep a copy of this directory where the cluster's operator can't read it: whoever has it decides who reads.\n"
    "`kveil authority run --upstream …` publishes it and lets nodes in; `kveil authority ticket` makes their tickets."
)
_NO_KEEPER: Final = (
    "There is no keeper: who loses all consumers loses the data, and late joiners get no history. "
    "`kveil authority ticket --role keeper --topics '*'` makes a ticket for one."
)


@app.callback()
def authority() -> None:
    """Say who may seal and who may open, by identities."""


@app.command()
def init(
    *,
    directory: identities.AuthorityDirectory = None,
    realm: Annotated[
        str | None, typer.Option("--realm", metavar="NAME", help="The name of the realm, for ever. [random]")
    ] = None,
    lease_hours: Annotated[
        float,
        typer.Option("--lease-hours", metavar="HOURS", min=0.1, max=168, help="How long producers seal without word."),
    ] = 24,
    post_quantum: Annotated[
        bool, typer.Option("--pq/--no-pq", help="Wrap keys with MLKEM768-X25519, or with X25519 alone.")
    ] = True,
    sign_twice: Annotated[bool, typer.Option("--sign-twice", help="Sign with ML-DSA-65 beside Ed25519.")] = False,
    hiding_key: Annotated[
        Path | None,
        typer.Option("--hiding-key", metavar="FILE", help="A key file, whose realm and key-hiding key it takes over."),
    ] = None,
    config: options.ConfigFile = None,
    passphrase: identities.Passphrase = None,
    as_json: options.AsJson = False,
) -> None:
    """Begin a realm: make its authority's keys and its first checkpoint. Needs no cluster."""
    import time

    from kveil.protocol.identity.crypto import KemSuite
    from kveil.protocol.identity.identity import Identity
    from kveil.proxy.admin.audit import audit
    from kveil.proxy.identity.authority import new_state
    from kveil.proxy.identity.authority_store import AuthorityStore
    from kveil.proxy.keys.keyfile import checked_name, new_realm

    authority_work.log_audit()
    store = AuthorityStore(identities.authority_directory(directory))
    secret = identities.passphrase_of(passphrase)
    store.check_vacant()
    taken = None
    if hiding_key is not None:
        realm, taken = taken_over(hiding_key, config, realm)
    name = new_realm() if realm is None else checked_name(realm, "realm")
    keys = Identity.generate(suite=KemSuite.MLKEM768_X25519 if post_quantum else KemSuite.X25519, sign_twice=sign_twice)
    store.create(keys, new_state(keys, name, round(lease_hours * 3600), int(time.time()), taken), secret)
    audit("authority.created", name, fingerprint=keys.id.hex())
    shown = {"realm": name, "fingerprint": keys.id.hex(), "directory": str(store.directory)}
    text = f"Made {store.directory}\nrealm: {name}\nfingerprint: {identities.fingerprint(keys.id)}\n\n{_NEXT}"
    tell(text, shown, as_json=as_json)


@app.command()
def ticket(
    *,
    role: identities.Roles,
    topics: identities.Topics,
    history: identities.History = None,
    minutes: Annotated[
        float, typer.Option("--minutes", metavar="N", min=0.1, max=43_200, help="For how long it may be used.")
    ] = 10,
    uses: Annotated[int, typer.Option("--uses", metavar="N", min=1, max=1000, help="How many nodes may use it.")] = 1,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What the member is to be called. [role and number]")
    ] = None,
    directory: identities.AuthorityDirectory = None,
    passphrase: identities.Passphrase = None,
    as_json: options.AsJson = False,
) -> None:
    """Write a ticket to standard output, for `kveil enroll`. Whoever has it first can use it: it is a secret."""
    from kveil.proxy.identity.errors import IdentityError

    if name is not None and uses > 1:
        raise IdentityError("--name is for one member, and --uses lets several in")
    grants = identities.grants_of(role, topics, history)
    made = []

    def issue(deciding: "Authority") -> None:
        made.append(deciding.issue_ticket(grants, round(minutes * 60), uses, name))

    authority_work.decide_offline(directory, passphrase, issue)
    (one,) = made
    tell(one.to_text(), {"ticket": one.to_text(), "expires": one.expires, "uses": uses}, as_json=as_json)
    if sys.stdout.isatty():
        warn("That line is a secret: hand it over as one, in a file that only its node can read.", as_json=True)


@app.command("list")
def list_members(
    directory: identities.AuthorityDirectory = None,
    passphrase: identities.Passphrase = None,
    as_json: options.AsJson = False,
) -> None:
    """Show members, who was revoked, open tickets, and the newest checkpoint. Needs no cluster."""
    state, _ = authority_work.load(directory, passphrase)
    listing = authority_work.listing(state)
    tell(_as_text(listing), listing, as_json=as_json)
    if not as_json:
        _warn_without_keeper(state)


def _warn_without_keeper(state: "AuthorityState") -> None:
    from kveil.protocol.identity.credential import Role

    roles = {grant.role for one in state.members for grant in one.credential.grants}
    if Role.PRODUCE in roles and Role.KEEPER not in roles:
        warn(_NO_KEEPER, as_json=True)


def _as_text(listing: dict[str, object]) -> str:
    checkpoint, members, revoked, tickets = (listing[name] for name in ("checkpoint", "members", "revoked", "tickets"))
    assert isinstance(checkpoint, dict)
    assert isinstance(members, list)
    assert isinstance(revoked, list)
    assert isinstance(tickets, list)
    lines = [
        f"realm {listing['realm']}, checkpoint {checkpoint['number']}, until {checkpoint['expires']}",
        f"authority {listing['fingerprint']}",
    ]
    for one in members:
        lines.append(f"member {one['name']}  {identities.grants_as_text(one['grants'])}  until {one['expires']}")
        lines.append(f"  {one['fingerprint']}")
    lines += [f"revoked {one['name'] or one['fingerprint']}  at {one['at']}" for one in revoked]
    lines += [
        f"ticket {one['id']}  {identities.grants_as_text(one['grants'])}  until {one['expires']}, "
        f"{one['uses_left']} uses left"
        for one in tickets
    ]
    return "\n".join(lines)


app.command()(authority_online.run)
app.command()(authority_online.grant)
app.command()(authority_online.revoke)
app.command()(authority_online.checkpoint)
app.command()(authority_online.publish)
