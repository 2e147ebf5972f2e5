"""Points in time as people read them."""

from kveil.protocol.identity.moments import moment

__all__ = ["moment"]
