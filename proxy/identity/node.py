"""A node: its keys, whom it belongs to, and the files that remember both."""

from pathlib import Path
from typing import NamedTuple

from kveil.protocol.identity.identity import Identity
from kveil.proxy.config import Identity as IdentitySettings
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.identity_file import read_identity
from kveil.proxy.identity.node_files import Membership, NodeFiles
from kveil.proxy.secret import Secret


class Node(NamedTuple):
    """An enrolled node."""

    identity: Identity
    membership: Membership
    files: NodeFiles


def open_node(settings: IdentitySettings) -> Node:
    """The node whose directory the settings name.

    :raises IdentityError: it isn't enrolled, or what it must remember is missing, unsafe or damaged.
    """
    try:
        passphrase = None if settings.passphrase is None else settings.passphrase.read()
    except ValueError as error:
        raise IdentityError(f"identity.passphrase: {error}") from None
    return open_node_at(settings.path, passphrase)


def open_node_at(path: Path, passphrase: Secret | None) -> Node:
    """The same for a directory and the passphrase itself."""
    files = NodeFiles(path)
    membership = files.membership()
    files.mark()
    return Node(read_identity(path, passphrase), membership, files)
