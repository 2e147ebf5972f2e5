"""A node: its keys, whom it belongs to, and the files that remember both."""

from pathlib import Path
from typing import NamedTuple

from kveil.protocol.identity.identity import Identity
from kveil.proxy.config import Identity as IdentitySettings
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.file_token import FileToken
from kveil.proxy.identity.identity_file import Protection, read_identity
from kveil.proxy.identity.node_files import Membership, NodeFiles


class Node(NamedTuple):
    """An enrolled node."""

    identity: Identity
    membership: Membership
    files: NodeFiles


def open_node(settings: IdentitySettings) -> Node:
    """The node whose directory the settings name.

    :raises IdentityError: it isn't enrolled, or what it must remember is missing, unsafe or damaged.
    """
    return open_node_at(settings.path, protection_of(settings))


def protection_of(settings: IdentitySettings) -> Protection:
    """What the private keys there take. Raises IdentityError."""
    if settings.pkcs11 is not None:
        return FileToken(settings.pkcs11)
    try:
        return None if settings.passphrase is None else settings.passphrase.read()
    except ValueError as error:
        raise IdentityError(f"identity.passphrase: {error}") from None


def open_node_at(path: Path, protection: Protection) -> Node:
    """The same for a directory and what its keys take."""
    files = NodeFiles(path)
    membership = files.membership()
    files.mark()
    return Node(read_identity(path, protection), membership, files)
