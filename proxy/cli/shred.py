"""`kveil keys shred`: erase one record key, and finish what was erased."""

import base64
import binascii
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kveil.proxy.cli import options
from kveil.proxy.cli.auditing import audited
from kveil.proxy.cli.options import Flags, settings_from
from kveil.proxy.cli.telling import still_at, tell, warn

if TYPE_CHECKING:
    from kveil.proxy.config import Settings
    from kveil.proxy.net.erasure import Destruction, Finish

FAILED: Final = 1
WRONG_USE: Final = 2

NOT_FINISHED = (
    "Its records open for nobody who follows the key topic. The erasure is NOT finished: a copy of the\n"
    "log may hold its keys, still wrapped. `kveil keys shred --finish` makes those copies worthless."
)
COPIES = (
    "Every other copy of the key file, backups too, must give way to this one: whoever keeps an older one, and a\n"
    "copy of the log, can open what was erased."
)


def shred(
    topic: Annotated[str | None, typer.Argument(metavar="TOPIC", help="The topic.")] = None,
    record_key: Annotated[
        str | None, typer.Argument(metavar="RECORD_KEY", help="The record key to erase, as text.")
    ] = None,
    *,
    as_hex: Annotated[bool, typer.Option("--hex", help="RECORD_KEY is hexadecimal.")] = False,
    as_base64: Annotated[bool, typer.Option("--base64", help="RECORD_KEY is base64.")] = False,
    from_file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="The record key is what this file holds, to the byte.")
    ] = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="Make what was erased unreadable for everyone, whatever copy they keep.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    keys: options.KeyPath = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
    as_json: options.AsJson = False,
) -> None:
    """Erase one record key of a topic (key_per: record_key), for ever. It takes two steps: --finish is the second."""
    import asyncio

    from kveil.proxy import log
    from kveil.proxy.keys.errors import KeyDenied, KeyRefused, KeyUnavailable
    from kveil.proxy.net.erasure import ErasureFailed

    wanted = _record_key(record_key, from_file, as_hex=as_hex, as_base64=as_base64)
    if finish == (topic is not None) or (wanted is None) != finish:
        _say("name a TOPIC and one RECORD_KEY (or --file), or --finish alone")
        raise typer.Exit(WRONG_USE)
    settings = settings_from(Flags(config=config, upstream=upstream, keys=keys, tls=tls, tls_ca=tls_ca))
    log.configure(settings.log.format.value)
    try:
        with audited("kveil keys shred", settings):
            if topic is not None and wanted is not None:
                raise typer.Exit(asyncio.run(_shred(settings, topic, wanted, as_json=as_json)))
            raise typer.Exit(asyncio.run(_finish(settings, yes=yes, as_json=as_json)))
    except (ErasureFailed, KeyDenied, KeyRefused, KeyUnavailable) as error:
        _say(str(error))
        raise typer.Exit(FAILED) from None


def _record_key(text: str | None, from_file: Path | None, *, as_hex: bool, as_base64: bool) -> bytes | None:
    """The record key, None if there is none."""
    given = sum((from_file is not None, as_hex, as_base64))
    if given > 1 or (from_file is not None and text is not None):
        _say("--hex, --base64 and --file exclude each other")
        raise typer.Exit(WRONG_USE)
    try:
        if from_file is not None:
            return from_file.read_bytes()
        if text is None:
            return None
        if as_hex:
            return bytes.fromhex(text)
        return base64.b64decode(text, validate=True) if as_base64 else text.encode()
    except OSError as error:
        _say(f"{from_file} can't be read: {error.strerror}")
    except (ValueError, binascii.Error):
        _say("RECORD_KEY isn't what the option says")
    raise typer.Exit(WRONG_USE)


async def _shred(settings: "Settings", topic: str, record_key: bytes, *, as_json: bool) -> int:
    from kveil.proxy.net import erasure
    from kveil.proxy.server import share

    shared = share(settings)
    with still_at("reading the key topic"):
        async with erasure.followed_keys(shared) as keys:
            count = await erasure.shred(shared, keys, topic, record_key)
            waiting = bool(keys.store.pending())
    if not count:
        tell(None, {"topic": topic, "erased": 0, "finished": False}, as_json=as_json)
        _say(f"there is no key for this record key of {topic}: it never had one, or is erased already")
        if waiting:
            _say("erasures wait for `kveil keys shred --finish`")
        return FAILED
    text = f"Erased the key of this record key of {topic}.\n{NOT_FINISHED}"
    tell(text, {"topic": topic, "erased": count, "finished": False}, as_json=as_json)
    return 0


async def _finish(settings: "Settings", *, yes: bool, as_json: bool) -> int:
    from kveil.proxy.net import erasure
    from kveil.proxy.server import share

    shared = share(settings)
    gone: dict[str, int] = {}
    async with erasure.followed_keys(shared) as keys:
        unfinished = erasure.unfinished_keys(keys)
        for key in unfinished:
            work = erasure.Finish(shared, keys, key, _say)
            destruction = await work.rewrap()
            if await _is_destroyed(settings, work, destruction, yes=yes, as_json=as_json):
                gone[str(key)] = await work.complete()
                warn(f"key {key}: {gone[str(key)]} erased keys are gone for everyone.", as_json=as_json)
        left = len(keys.store.pending())
    finished = not left and len(gone) == len(unfinished)
    nothing = "Nothing waits to be finished." if finished and not unfinished else None
    tell(nothing, {"finished": finished, "gone": gone, "left": left}, as_json=as_json)
    if left:
        _say(f"{left} erased keys are NOT gone for everyone yet")
    return 0 if finished else FAILED


async def _is_destroyed(
    settings: "Settings", work: "Finish", destruction: "Destruction", *, yes: bool, as_json: bool
) -> bool:
    """Whether the old versions unwrap nothing any more. Those of a key file are taken out, if the user agrees."""
    from kveil.proxy.cli.service_commands import destruction_of
    from kveil.proxy.config import KeyService
    from kveil.proxy.policy import SERVICES

    alive = await work.check_destroyed()
    key, versions = destruction.key, ", ".join(alive)
    if alive and SERVICES[key.provider] is KeyService.KEYFILE:
        if not (yes or _agrees(f"Take version {versions} of key {key.name} out of {settings.keys.path}, for ever?")):
            _say("nothing was destroyed: --yes does it without asking. All others' keys are moved already")
            return False
        _take_out(settings.keys.path, key.name, alive)
        warn(f"Took version {versions} of key {key.name} out of {settings.keys.path}.\n{COPIES}", as_json=as_json)
        alive = await work.check_destroyed()
    if alive:
        command = destruction_of(SERVICES[key.provider], key.name, alive, settings.keys)
        _say(
            f"the erasure is NOT finished: key {key} still unwraps what its version {versions} wrapped. All others' "
            f"keys are moved already. Destroy the old version for good:\n\n{command}\n\nand run this again"
        )
    return not alive


def _take_out(path: Path, name: str, versions: list[str]) -> None:
    from kveil.proxy.admin.audit import audit
    from kveil.proxy.keys.keyfile import KeyFile, destroy_version
    from kveil.proxy.keys.keyfile_store import change_key_file

    def without(content: KeyFile) -> KeyFile:
        for version in versions:
            content = destroy_version(content, name, version)
        return content

    change_key_file(path, without)
    for version in versions:
        audit("key.destroyed", name, path=str(path), version=version)


def _agrees(question: str) -> bool:
    import sys

    return sys.stdin.isatty() and typer.confirm(question, err=True)


def _say(text: str) -> None:
    typer.echo(f"kveil: {text}", err=True)
