"""What the commands about identities share: options, directories, passphrases, words."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from kveil.protocol.identity.credential import Grant
    from kveil.protocol.identity.signing import Signed
    from kveil.proxy.identity.identity_file import Protection
    from kveil.proxy.secret import Secret

_MOST_FILE_BYTES: Final = 64 * 1024 * 1024

AuthorityDirectory = Annotated[
    Path | None, typer.Option("--authority", metavar="DIRECTORY", help="The authority's directory.")
]
IdentityDirectory = Annotated[
    Path | None, typer.Option("--identity", metavar="DIRECTORY", help="The node's directory, as identity.path.")
]
Passphrase = Annotated[
    str | None,
    typer.Option(
        "--passphrase", metavar="REFERENCE", help="Where the passphrase of the private keys is: file:PATH or env:NAME."
    ),
]
Roles = Annotated[list[str], typer.Option("--role", metavar="ROLE", help="producer, consumer or keeper. Repeatable.")]
Topics = Annotated[
    list[str],
    typer.Option("--topics", metavar="PATTERN", help="Topics that it may, as in rules. Repeatable, or with commas."),
]
History = Annotated[
    str | None,
    typer.Option("--history", metavar="WHICH", help="For a consumer: none, from-join or all. [from-join]"),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Write the records to a file, for `kveil authority publish`."),
]


def authority_directory(given: Path | None) -> Path:
    """The directory of the option, or the one beside the identity's."""
    from kveil.proxy.config.paths import default_identity_path

    return default_identity_path().with_name("authority") if given is None else given


def node_directory(given: Path | None, config: Path | None) -> Path:
    """The node's directory, by the option or as `kveil run` has it. Raises ConfigError."""
    from kveil.proxy.config import load_key_settings

    return load_key_settings(config).identity.path if given is None else given


def node_place(given: Path | None, reference: str | None, config: Path | None) -> "tuple[Path, Protection]":
    """The node's directory and what its keys take, by the options or as `kveil run` has them.

    :raises ConfigError: the configuration can't be used.
    :raises IdentityError: two things are to protect the keys, or one isn't there.
    """
    from kveil.proxy.config import load_key_settings
    from kveil.proxy.identity.errors import IdentityError
    from kveil.proxy.identity.node import protection_of

    settings = load_key_settings(config).identity
    if reference is None:
        return given or settings.path, protection_of(settings)
    if settings.pkcs11 is not None:
        raise IdentityError("private keys are protected by --passphrase or by identity.pkcs11: leave one of them out")
    return given or settings.path, passphrase_of(reference)


def passphrase_of(reference: str | None) -> "Secret | None":
    """What a reference leads to. Raises IdentityError, which never has it."""
    from kveil.proxy.config import SecretRef
    from kveil.proxy.identity.errors import IdentityError

    if reference is None:
        return None
    try:
        return SecretRef.parse(reference).read()
    except ValueError as error:
        raise IdentityError(f"--passphrase: {error}") from None


def grants_of(roles: Sequence[str], topics: Sequence[str], history: str | None) -> "tuple[Grant, ...]":
    """What the options grant. Raises IdentityError."""
    from kveil.proxy.identity.authority_state import grant_of
    from kveil.proxy.identity.errors import IdentityError

    patterns = tuple(part.strip() for one in topics for part in one.split(",") if part.strip())
    if history is not None and "consumer" not in roles:
        raise IdentityError("--history is for consumers")
    return tuple(grant_of(role, patterns, history if role == "consumer" else None) for role in dict.fromkeys(roles))


def read_file(path: Path, what: str) -> bytes:
    """A file, or standard input for `-`. Raises IdentityError."""
    from kveil.proxy.identity.errors import IdentityError

    try:
        if str(path) == "-":
            return sys.stdin.buffer.read(_MOST_FILE_BYTES)
        with path.open("rb") as file:
            return file.read(_MOST_FILE_BYTES)
    except OSError as error:
        raise IdentityError(f"{what} {path} can't be read: {error.strerror}") from None


def write_records(path: Path, realm: str, records: "Sequence[Signed]") -> None:
    """A file for `kveil authority publish`. Raises IdentityError."""
    from kveil.proxy.identity.errors import IdentityError
    from kveil.proxy.identity.records_file import encode_records

    try:
        path.write_bytes(encode_records(realm, records))
    except OSError as error:
        raise IdentityError(f"{path} can't be written: {error.strerror}") from None


def check_fingerprint(text: str) -> bytes:
    """The id. Raises IdentityError."""
    from kveil.protocol.identity.errors import Malformed
    from kveil.protocol.identity.identity import parse_fingerprint
    from kveil.proxy.identity.errors import IdentityError

    try:
        return parse_fingerprint(text)
    except Malformed as error:
        raise IdentityError(f"{error.reason}; spaces, colons and hyphens between them don't matter") from None


def fingerprint(identity_id: bytes) -> str:
    """As people compare it."""
    from kveil.protocol.identity.identity import format_fingerprint

    return format_fingerprint(identity_id)


def grants_as_text(grants: "Sequence[dict[str, Any]]") -> str:
    """One line."""
    return "; ".join(
        f"{one['role']} {', '.join(one['topics'])}" + (f" (history {one['history']})" if "history" in one else "")
        for one in grants
    )
