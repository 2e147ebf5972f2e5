"""What `run`, `producer` and `consumer` do once their settings are known."""

import typer

from kveil.proxy.config import Settings


def serve_until_stopped(settings: Settings) -> None:
    """Serves until a signal. Ends the program with the server's exit code."""
    from kveil.proxy import log
    from kveil.proxy.keys.opening import open_provider
    from kveil.proxy.policy import Policy
    from kveil.proxy.users.users_store import check_users

    # Opened here first, so that a missing file is told of before a port is bound.
    open_provider(settings, Policy(settings))
    check_users(settings)
    log.configure(settings.log.format.value, settings.log.level.value)
    from kveil.proxy.server import serve

    raise typer.Exit(serve(settings))
