"""Options that several commands share, and the settings that come of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from kveil.proxy.config import Direction, Keys, KeyService, Override, Settings
    from kveil.proxy.policy import KeyRef

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="KVEIL_CONFIG", metavar="FILE", help="The configuration file."),
]
UpstreamServers = Annotated[
    str | None,
    typer.Option("--upstream", metavar="HOST:PORT[,...]", help="The cluster's bootstrap servers."),
]
Listen = Annotated[
    list[str] | None,
    typer.Option(
        "--listen",
        metavar="HOST:PORT",
        help="Where clients connect, instead of the file's listeners. Repeatable.",
    ),
]
KeyPath = Annotated[Path | None, typer.Option("--keys", metavar="FILE", help="The key file.")]
Tls = Annotated[
    bool | None,
    typer.Option("--tls/--no-tls", help="TLS to the cluster. Without --tls-ca the system's roots are trusted."),
]
TlsCa = Annotated[
    Path | None,
    typer.Option("--tls-ca", metavar="FILE", help="TLS to the cluster, trusting the roots in this PEM file."),
]
Workers = Annotated[int | None, typer.Option("--workers", metavar="N", help="How many processes serve clients.")]
LogLevel = Annotated[str | None, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")]
LogFormat = Annotated[
    str | None,
    typer.Option("--log-format", metavar="FORMAT", help="json, console, or auto: console on a terminal."),
]
LazyKeys = Annotated[
    bool | None,
    typer.Option("--lazy-keys", help="Start though keys that the rules name can't be used, or not yet."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What the command line said of the settings; None where it said nothing."""

    config: Path | None = None
    upstream: str | None = None
    listen: list[str] | None = None
    keys: Path | None = None
    lazy_keys: bool | None = None
    tls: bool | None = None
    tls_ca: Path | None = None
    workers: int | None = None
    log_level: str | None = None
    log_format: str | None = None


_PLAIN_FLAGS: Final = {
    "--upstream": ("upstream", "bootstrap"),
    "--keys": ("keys", "path"),
    "--lazy-keys": ("keys", "lazy"),
    "--tls-ca": ("upstream", "tls", "ca"),
    "--workers": ("workers",),
    "--log-level": ("log", "level"),
    "--log-format": ("log", "format"),
}


def settings_from(flags: Flags) -> "Settings":
    """The settings of `run` and `check`: file, environment, flags. Raises ConfigError."""
    from kveil.proxy.config import load

    listeners = [{"address": address} for address in flags.listen or ()]
    return load(flags.config, overrides=_overrides(flags, listeners, "--listen"))


def one_way_settings(flags: Flags, direction: "Direction", address: str) -> "Settings":
    """The settings of a command that listens in one direction, at `address` unless a flag says otherwise."""
    from kveil.proxy.config import load

    listeners = [{"address": one, "direction": direction.value} for one in flags.listen or (address,)]
    return load(flags.config, overrides=_overrides(flags, listeners, "--listen"))


def _overrides(flags: Flags, listeners: list[dict[str, str]], origin: str) -> "list[Override]":
    from kveil.proxy.config import Override

    found = []
    if listeners:
        found.append(Override(path=("listeners",), value=listeners, origin=origin))
    if flags.tls is not None:
        # --tls leaves the file's certificates in place; --no-tls turns the whole of it off.
        value: dict[str, str] | None = {} if flags.tls else None
        tls = Override(path=("upstream", "tls"), value=value, origin="--tls", only_if_null=flags.tls)
        found.append(tls)
    for flag, path in _PLAIN_FLAGS.items():
        value_given = getattr(flags, flag.removeprefix("--").replace("-", "_"))
        if value_given is not None:
            found.append(Override(path=path, value=value_given, origin=flag))
    return found


def key_path_overrides(path: Path | None) -> "list[Override]":
    """What `--keys` says of the settings."""
    from kveil.proxy.config import Override

    return [] if path is None else [Override(path=("keys", "path"), value=path, origin="--keys")]


def key_ref(name: str | None, keys: "Keys") -> "KeyRef":
    """The key that a command names, as a rule would, or the default one. Raises KeySetupError."""
    from kveil.proxy.config import KeyName
    from kveil.proxy.keys.errors import KeySetupError
    from kveil.proxy.policy import PROVIDER_IDS, KeyRef

    try:
        found = keys.default if name is None else KeyName.parse(name)
    except ValueError as error:
        raise KeySetupError(f"{name}: {error}") from None
    if found.is_template:
        msg = f"{found} is another key for each topic: name one"
        raise KeySetupError(msg)
    return KeyRef(PROVIDER_IDS[found.provider or keys.service], found.name)


def service_of(name: str, keys: "Keys") -> "KeyService | None":
    """The key service that has the key which a command names, None if it is the key file's."""
    from kveil.proxy.config import KeyService

    before, colon, _ = name.partition(":")
    service = KeyService(before) if colon and before in set(KeyService) else keys.service
    return None if service is KeyService.KEYFILE else service


def bare(name: str) -> str:
    """A key's name without its provider."""
    from kveil.proxy.config import KeyService

    before, colon, rest = name.partition(":")
    return rest if colon and before in set(KeyService) else name
