"""A node: its keys, whom it belongs to, and the files that remember both."""

from typing import NamedTuple

from kveil.protocol.identity.identity import Identity
from kveil.proxy.config import Identity as IdentitySettings
from kveil.proxy.identity.errors import IdentityError
from kveil.proxy.identity.identity_file import read_identity
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
    files = NodeFiles(settings.path)
    membership = files.membership()
    files.mark()
    try:
        passphrase = None if settings.passphrase is None else settings.passphrase.read()
    except ValueError as error:
        raise IdentityError(f"identity.passphrase: {error}") from None
    return Node(read_identity(settings.path, passphrase), membership, files)
