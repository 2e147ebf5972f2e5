"""`kveil keys destroy`: a key that nobody is to have any more."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from kveil.proxy.cli import options
from kveil.proxy.cli.auditing import audited
from kveil.proxy.cli.telling import tell, warn

if TYPE_CHECKING:
    from kveil.proxy.config import Settings
    from kveil.proxy.keys.keyfile import KeyFile

WRONG_USE: Final = 2


def destroy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The key to destroy.")],
    *,
    version: Annotated[
        str | None, typer.Option("--version", metavar="V", help="Destroy this retired version of the key only.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    in_use: Annotated[bool, typer.Option("--in-use", help="Destroy it though the configuration names it.")] = False,
    path: options.KeyPath = None,
    config: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Take a key out of the key file for ever: what was sealed under it opens for nobody any more."""
    from kveil.proxy import log
    from kveil.proxy.admin.audit import audit
    from kveil.proxy.cli.service_commands import destruction
    from kveil.proxy.config import load_key_settings
    from kveil.proxy.keys.errors import KeySetupError
    from kveil.proxy.keys.keyfile import destroy_key, destroy_version
    from kveil.proxy.keys.keyfile_store import change_key_file, read_key_file

    settings = load_key_settings(config, overrides=options.key_path_overrides(path))
    bare = options.bare(name)
    if (service := options.service_of(name, settings.keys)) is not None:
        there = destruction(service, bare, settings.keys)
        msg = f"{bare} is a key of {service}, and is destroyed there:\n{there}"
        raise KeySetupError(msg)

    def without(content: "KeyFile") -> "KeyFile":
        return destroy_key(content, bare) if version is None else destroy_version(content, bare, version)

    without(read_key_file(settings.keys.path)[0])  # so that what can't be destroyed isn't asked about
    if version is None and not in_use:
        _check_unused(settings, bare)
    what = f"key {bare}" if version is None else f"version {version} of key {bare}"
    warn(_warning(settings, what), as_json=as_json)
    if not yes and typer.prompt(f"Type {bare} to destroy it", default="", show_default=False, err=as_json) != bare:
        typer.echo("kveil: nothing was destroyed", err=True)
        raise typer.Exit(WRONG_USE)
    log.configure(settings.log.format.value)
    with audited("kveil keys destroy", settings):
        change_key_file(settings.keys.path, without)
        audit("key.destroyed", bare, path=str(settings.keys.path), version=version)
    shown = {"path": str(settings.keys.path), "key": bare, "version": version}
    tell(f"Destroyed {what} in {settings.keys.path}.", shown, as_json=as_json)


def _check_unused(settings: "Settings", name: str) -> None:
    """Raises KeySetupError if a rule names the key."""
    from kveil.proxy.keys.errors import KeySetupError
    from kveil.proxy.policy import KeyRef, Policy

    policy = Policy(settings)
    key = next((key for key in policy.named_keys if key == KeyRef(1, name)), None)
    if key is not None:
        does = "seals" if key in policy.sealing_keys else "opens"
        msg = (
            f"{name} still {does} by the configuration's rules: without it those topics can't be used, and proxies "
            "don't start. Give the rules another key first, or say --in-use"
        )
        raise KeySetupError(msg)


def _warning(settings: "Settings", what: str) -> str:
    keys = settings.keys
    return (
        f"This destroys {what} in {keys.path}. Whatever was sealed under it opens for nobody, ever again.\n"
        "Which topics still need it: `kveil keys usage TOPIC`. Copies of the file, on other hosts, in backups and in\n"
        "snapshots of the disk, still have the key: it must be destroyed in each of them. Proxies that run keep what\n"
        f"they have unwrapped for keys.unwrap_cache_seconds ({keys.unwrap_cache_seconds:g}), or until a restart."
    )
