"""What the proxy logs in to the cluster with: secrets read anew for each login, tokens shared, refusals remembered."""

from kveil.proxy.credentials.source import Attempt, Credentials

__all__ = ["Attempt", "Credentials"]
