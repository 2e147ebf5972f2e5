"""Who may read and who may change the files of the configuration."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kveil.proxy.config import KeyService, Settings
from kveil.proxy.config.values import SecretRef
from kveil.proxy.doctor.findings import Finding, failure, ok, warning
from kveil.proxy.private_file import open_bits

CHECK: Final = "files"
_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFile:
    """A file that the configuration names."""

    path: Path
    what: str
    is_secret: bool = True
    is_refused: bool = False
    """Whether the proxy doesn't start with one that others may read."""


def look_at_files(settings: Settings, config: Path | None) -> list[Finding]:
    """Judge each file that is there. One that is missing and needed is told where it is used."""
    files = list(files_of(settings, config))
    findings = [finding for file in files for finding in _look_at(file)]
    if findings:
        return findings
    return [ok(CHECK, f"{len(files)} looked at: nobody else may change them, or read what is secret")]


def files_of(settings: Settings, config: Path | None) -> Iterator[KnownFile]:
    """Yield the configuration itself, keys, users, private keys and secrets."""
    if config is not None:
        yield KnownFile(path=config, what="the configuration", is_secret=False)
    if settings.keys.path.exists() or settings.keys.service is KeyService.KEYFILE:
        yield KnownFile(path=settings.keys.path, what="the key file", is_refused=True)
    for place, listener in enumerate(settings.listeners):
        if listener.sasl is not None:
            yield KnownFile(path=listener.sasl.users, what=f"listeners[{place}].sasl.users", is_refused=True)
        if listener.tls is not None:
            yield from _tls_files(listener.tls, f"listeners[{place}].tls", "client_ca")
    if settings.upstream.tls is not None:
        yield from _tls_files(settings.upstream.tls, "upstream.tls", "ca")
    for name, secret in _secrets(settings, ""):
        if secret.kind == "file":
            yield KnownFile(path=Path(secret.place), what=name)


def _tls_files(tls: Any, name: str, roots: str) -> Iterator[KnownFile]:
    """Yield a certificate's private key, and the roots that are trusted: who changes them chooses whom to trust."""
    if tls.cert is not None:
        key = tls.key or tls.cert  # one file may hold both
        yield KnownFile(path=key, what=f"{name}.{'key' if tls.key else 'cert'}")
    if getattr(tls, roots) is not None:
        yield KnownFile(path=getattr(tls, roots), what=f"{name}.{roots}", is_secret=False)


def _secrets(section: Any, name: str) -> Iterator[tuple[str, SecretRef]]:
    """Yield every reference to a secret in the settings, with its path there."""
    if isinstance(section, SecretRef):
        yield name, section
    elif isinstance(section, tuple):
        for place, inner in enumerate(section):
            yield from _secrets(inner, f"{name}[{place}]")
    else:
        for key in getattr(type(section), "model_fields", ()):
            yield from _secrets(getattr(section, key), f"{name}.{key}" if name else key)


def _look_at(file: KnownFile) -> Iterator[Finding]:
    try:
        status = file.path.stat()
        folder = file.path.resolve().parent.stat()
    except OSError:
        return
    yield from judge(file, status, folder)


def judge(file: KnownFile, status: os.stat_result, folder: os.stat_result) -> Sequence[Finding]:
    """Return what is wrong with one file, by its own permissions and those of the directory that it stands in."""
    found = []
    about, mode = f"{file.what} {file.path}", stat.S_IMODE(status.st_mode)
    if status.st_uid not in {os.geteuid(), 0}:
        text = f"{about} belongs to another user (id {status.st_uid}), who can change it"
        found.append(warning(CHECK, text, f"run kveil as that user, or chown {os.geteuid()} {file.path}"))
    if mode & _MAY_WRITE:
        tell = failure if file.is_refused else _by_whom(mode)
        found.append(tell(CHECK, f"{about} can be changed by other users (mode {mode:04o})", f"chmod go-w {file.path}"))
    if file.is_secret and mode & open_bits(status.st_uid) & ~_MAY_WRITE:
        tell = failure if file.is_refused else warning
        found.append(tell(CHECK, f"{about} can be read by other users (mode {mode:04o})", f"chmod 600 {file.path}"))
    # In a directory with the sticky bit only a file's owner can put another one in its place.
    if folder.st_mode & _MAY_WRITE and not folder.st_mode & stat.S_ISVTX:
        text = f"{about} can be replaced by other users, who may write to its directory"
        found.append(_by_whom(folder.st_mode)(CHECK, text, f"chmod go-w {file.path.resolve().parent}"))
    return found


def _by_whom(mode: int) -> Callable[[str, str, str], Finding]:
    """A group may be its owner's alone, as many systems give each user one."""
    return failure if mode & stat.S_IWOTH else warning
