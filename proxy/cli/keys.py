"""`kveil keys`: keys, made, listed, grown and destroyed. Nothing here shows a key."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kveil.proxy.cli import key_destroy, key_usage, options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.auditing import audited, audited_by_file
from kveil.proxy.cli.shred import shred
from kveil.proxy.cli.telling import still_at, tell, warn

if TYPE_CHECKING:
    from kveil.proxy.config import Keys, Settings
    from kveil.proxy.keys.keyfile import KeyFile

app = command_app()

LOSS = (
    "Whoever has this file can open your data. If it is lost, the data is lost: nobody, not even\n"
    "the broker's operator, can open it again. Keep a copy before you produce, in a place that the\n"
    "cluster's operator can't read."
)
LOSS_WRAPPED = (
    "The file opens no data by itself, but without it no topic in record mode with hidden keys can be\n"
    "written or read. Every proxy of this deployment needs a copy; keep another one before you produce."
)


@app.callback()
def keys() -> None:
    """Make, list, rotate and destroy keys, and see which are still needed."""


@app.command()
def init(
    path: options.KeyPath = None,
    config: options.ConfigFile = None,
    realm: Annotated[
        str | None,
        typer.Option("--realm", metavar="NAME", help="The name of this deployment, for ever. [random]"),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            metavar="NAME",
            help="A key to make, repeatable; of a key service, the key that is to wrap. [default]",
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a new key file. Never touches one that is there."""
    from kveil.proxy.admin.audit import audit
    from kveil.proxy.config import KeyService
    from kveil.proxy.keys.keyfile import DEFAULT_KEY, new_key_file
    from kveil.proxy.keys.keyfile_store import create_key_file

    settings = _settings(path, config)
    where = settings.keys.path
    realm = _realm(settings, realm)
    if settings.keys.service in {KeyService.KEYFILE, KeyService.IDENTITIES}:
        content = new_key_file(realm=realm, names=key or (DEFAULT_KEY,))
        with audited("kveil keys init", settings):
            create_key_file(where, content)
            for one in content.keys:
                audit("key.added", one.name, path=str(where), version=one.primary)
        names = [one.name for one in content.keys]
        shown = {"path": str(where), "realm": content.realm, "keys": names}
        tell(f"Made {where}\nrealm: {content.realm}\nkeys: {', '.join(names)}\n", shown, as_json=as_json)
        warn(LOSS, as_json=as_json)
    else:
        if key and len(key) > 1:
            raise typer.BadParameter("a key service's keys are made there: name the one that is to wrap")
        with still_at("asking the key service"):
            content, wrapped_by = _new_wrapped(settings, realm, key[0] if key else None)
        hiding = content.key_hiding_key.id.hex()
        with audited("kveil keys init", settings):
            create_key_file(where, content)
            audit("key.added", content.realm, path=str(where), kid=hiding, key=wrapped_by)
        shown = {"path": str(where), "realm": content.realm, "key_hiding_key": hiding, "wrapped_by": wrapped_by}
        line = f"key-hiding key: {hiding}, wrapped by {wrapped_by}"
        tell(f"Made {where}\nrealm: {content.realm}\n{line}\n", shown, as_json=as_json)
        warn(LOSS_WRAPPED, as_json=as_json)


def _settings(path: Path | None, config: Path | None) -> "Settings":
    """What `kveil run` with the same options would use of keys."""
    from kveil.proxy import log
    from kveil.proxy.config import load_key_settings

    settings = load_key_settings(config, overrides=options.key_path_overrides(path))
    log.configure(settings.log.format.value, "error")  # of calls to key services: to standard error
    return settings


def _keys(path: Path | None, config: Path | None) -> "Keys":
    """The same where rules don't matter."""
    from kveil.proxy.config import load_keys

    return load_keys(config, overrides=options.key_path_overrides(path))


def _realm(settings: "Settings", given: str | None) -> str | None:
    from kveil.proxy.config import KeyService
    from kveil.proxy.identity.node_files import NodeFiles
    from kveil.proxy.keys.errors import KeySetupError

    if given is not None and settings.realm is not None and given != settings.realm:
        msg = f"realm: the configuration says {settings.realm}, and --realm {given}: leave one of them out"
        raise KeySetupError(msg)
    realm = settings.realm if given is None else given
    if settings.keys.service is not KeyService.IDENTITIES:
        return realm
    member_of = NodeFiles(settings.identity.path).membership().realm
    if realm not in {None, member_of}:
        msg = f"realm: {settings.identity.path} belongs to {member_of}, not to {realm}: leave the realm out"
        raise KeySetupError(msg)
    return member_of


def _new_wrapped(settings: "Settings", realm: str | None, key: str | None) -> "tuple[KeyFile, str]":
    """A key file without keys, for a key service, and the key that wrapped what is in it."""
    import asyncio

    from kveil.proxy.keys.errors import KeyDenied, KeySetupError, KeyUnavailable
    from kveil.proxy.keys.hiding import wrap_new_hiding_key
    from kveil.proxy.keys.keyfile import KeyFile, checked_name, new_realm
    from kveil.proxy.keys.opening import key_calls, open_provider
    from kveil.proxy.policy import SERVICES

    wrapping = options.key_ref(key, settings.keys)
    name = new_realm() if realm is None else checked_name(realm, "realm")
    provider = open_provider(SERVICES[wrapping.provider], settings.keys)

    async def make() -> KeyFile:
        async with key_calls({wrapping.provider: provider}, settings.keys) as calls:
            hiding = await wrap_new_hiding_key(calls[wrapping.provider], wrapping.name, name)
        return KeyFile(realm=name, keys=(), key_hiding_key=hiding)

    try:
        return asyncio.run(make()), str(wrapping)
    except (KeyDenied, KeyUnavailable) as error:
        msg = f"the key {wrapping} can't be used: {error}"
        raise KeySetupError(msg) from None


@app.command("list")
def list_keys(path: options.KeyPath = None, config: options.ConfigFile = None, as_json: options.AsJson = False) -> None:
    """Show the names and versions of the keys, never the keys themselves."""
    from kveil.proxy.cli.key_listing import as_text, list_all

    with still_at("asking for the keys"):
        listing = list_all(_settings(path, config))
    tell(as_text(listing), listing, as_json=as_json)
    if any("problem" in key for key in listing["keys"]):
        raise typer.Exit(1)


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the new key.")],
    path: options.KeyPath = None,
    config: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Add another key to the file, for rules that name it."""
    from kveil.proxy.admin.audit import audit
    from kveil.proxy.keys.errors import KeySetupError
    from kveil.proxy.keys.keyfile import add_key
    from kveil.proxy.keys.keyfile_store import change_key_file

    keys = _keys(path, config)
    if (service := options.service_of(name, keys)) is not None:
        msg = f"{name} is a key of {service}: make it there, and name it in a rule"
        raise KeySetupError(msg)
    with audited_by_file("kveil keys add", config):
        change_key_file(keys.path, lambda content: add_key(content, options.bare(name)))
        audit("key.added", options.bare(name), path=str(keys.path))
    text = f"Added key {name} to {keys.path}. Copy the file to every proxy that reads or writes under it."
    tell(text, {"path": str(keys.path), "key": options.bare(name)}, as_json=as_json)


@app.command()
def rotate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The key to rotate.")] = "default",
    path: options.KeyPath = None,
    config: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Give a key a new version that seals from now on. Older versions stay, and still open."""
    from kveil.proxy.admin.audit import audit
    from kveil.proxy.cli.service_commands import rotation
    from kveil.proxy.config import KeyService
    from kveil.proxy.identity.node_files import NodeFiles
    from kveil.proxy.keys.errors import KeySetupError
    from kveil.proxy.keys.keyfile import rotate_key
    from kveil.proxy.keys.keyfile_store import change_key_file

    keys = _keys(path, config)
    name_there = options.bare(name)
    service = options.service_of(name, keys)
    if service is KeyService.IDENTITIES:
        directory = _settings(path, config).identity.path
        NodeFiles(directory).rotate()
        typer.echo(f"Proxies that run with the identity in {directory} begin new epoch keys within seconds.")
        return
    if service is not None:
        msg = f"{name_there} is a key of {service}, and is rotated there:\n{rotation(service, name_there, keys)}"
        raise KeySetupError(msg)
    with audited_by_file("kveil keys rotate", config):
        content = change_key_file(keys.path, lambda before: rotate_key(before, name_there))
        rotated = next(one for one in content.keys if one.name == name_there)
        audit("key.rotated", name_there, path=str(keys.path), version=rotated.primary)
    text = (
        f"Key {name_there} in {keys.path} seals with version {rotated.primary} from now on.\n"
        "Proxies that run with this file notice by themselves. Copy it to all others now: without it they\n"
        "can't open what is sealed from here on."
    )
    tell(text, {"path": str(keys.path), "key": name_there, "version": rotated.primary}, as_json=as_json)


app.command()(key_usage.usage)
app.command()(key_destroy.destroy)
app.command()(shred)
