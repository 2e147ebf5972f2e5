"""`kveil keys`: the key file, made, listed and grown. Nothing here shows a key."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kveil.proxy.cli import options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.shred import shred

if TYPE_CHECKING:
    from kveil.proxy.keys.keyfile import KeyFile, NamedKey

app = command_app()

LOSS = (
    "Whoever has this file can open your data. If it is lost, the data is lost: nobody, not even\n"
    "the broker's operator, can open it again. Keep a copy before you produce, in a place that the\n"
    "cluster's operator can't read."
)


@app.callback()
def keys() -> None:
    """Make, list and rotate the keys of the key file."""


@app.command()
def init(
    path: options.KeyPath = None,
    config: options.ConfigFile = None,
    realm: Annotated[
        str | None,
        typer.Option("--realm", metavar="NAME", help="The name of this deployment, for ever. [random]"),
    ] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", metavar="NAME", help="A key to make. Repeatable. [default]")
    ] = None,
) -> None:
    """Make a new key file. Never touches one that is there."""
    from kveil.proxy.keys.keyfile import DEFAULT_KEY, new_key_file
    from kveil.proxy.keys.keyfile_store import create_key_file

    where = _key_path(path, config)
    content = new_key_file(realm=realm, names=key or (DEFAULT_KEY,))
    create_key_file(where, content)
    names = ", ".join(one.name for one in content.keys)
    typer.echo(f"Made {where}\nrealm: {content.realm}\nkeys: {names}\n\n{LOSS}")


@app.command("list")
def list_keys(path: options.KeyPath = None, config: options.ConfigFile = None, as_json: options.AsJson = False) -> None:
    """Show the names and versions of the keys, never the keys themselves."""
    from kveil.proxy.keys.keyfile_store import read_key_file

    where = _key_path(path, config)
    content, _ = read_key_file(where)
    typer.echo(json.dumps(_as_json(where, content), indent=2) if as_json else _as_text(where, content))


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the new key.")],
    path: options.KeyPath = None,
    config: options.ConfigFile = None,
) -> None:
    """Add another key to the file, for rules that name it."""
    from kveil.proxy.keys.keyfile import add_key
    from kveil.proxy.keys.keyfile_store import change_key_file

    where = _key_path(path, config)
    change_key_file(where, lambda content: add_key(content, name))
    typer.echo(f"Added key {name} to {where}. Copy the file to every proxy that reads or writes under it.")


@app.command()
def rotate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The key to rotate.")] = "default",
    path: options.KeyPath = None,
    config: options.ConfigFile = None,
) -> None:
    """Give a key a new version that seals from now on. Older versions stay, and still open."""
    from kveil.proxy.keys.keyfile import rotate_key
    from kveil.proxy.keys.keyfile_store import change_key_file

    where = _key_path(path, config)
    content = change_key_file(where, lambda before: rotate_key(before, name))
    rotated = next(one for one in content.keys if one.name == name)
    typer.echo(
        f"Key {name} in {where} seals with version {rotated.primary} from now on.\n"
        "Proxies that run with this file notice by themselves. Copy it to all others now: without it they\n"
        "can't open what is sealed from here on."
    )


app.command()(shred)


def _key_path(path: Path | None, config: Path | None) -> Path:
    """The key file that `kveil run` with the same options would use."""
    from kveil.proxy.config import Override, load_keys

    given = [] if path is None else [Override(path=("keys", "path"), value=path, origin="--keys")]
    return load_keys(config, overrides=given).path


def _as_json(where: Path, content: "KeyFile") -> dict[str, object]:
    return {
        "path": str(where),
        "realm": content.realm,
        "keys": [_key_as_json(key) for key in content.keys],
        "key_hiding_key": {"id": content.key_hiding_key.id.hex(), "created": content.key_hiding_key.created},
    }


def _key_as_json(key: "NamedKey") -> dict[str, object]:
    versions = [{"version": one.version, "created": one.created} for one in key.versions]
    return {"name": key.name, "primary": key.primary, "versions": versions}


def _as_text(where: Path, content: "KeyFile") -> str:
    lines = [f"{where}", f"realm: {content.realm}"]
    for key in content.keys:
        for one in key.versions:
            mark = "  seals" if one.version == key.primary else "  opens only"
            lines.append(f"key {key.name}  version {one.version}  made {one.created}{mark}")
    hiding = content.key_hiding_key
    lines.append(f"key-hiding key  {hiding.id.hex()}  made {hiding.created}")
    return "\n".join(lines)
