"""What can go wrong with a node's identity."""

from kveil.proxy.keys.errors import KeySetupError


class IdentityError(KeySetupError):
    """The identity, or what the node must remember, is missing, unsafe or damaged. The text says the way out."""
