"""What `run`, `producer` and `consumer` do once their settings are known."""

from collections.abc import Callable

import typer

from kveil.proxy.config import Settings


def serve_until_stopped(read: Callable[[], Settings]) -> None:
    """Serves until a signal, and reads the settings again for each reload. Ends the program with the server's code."""
    settings = read()
    from kveil.proxy import log

    if settings.workers > 1:
        # The first worker looks at keys and users, before a port listens: the parent is to hold no key.
        from kveil.proxy.workers.supervisor import serve_by_workers

        log.configure(settings.log.format.value, settings.log.level.value)
        raise typer.Exit(serve_by_workers(settings, read, _guarded))

    from kveil.proxy.keys.opening import check_keys
    from kveil.proxy.policy import Policy
    from kveil.proxy.users.users_store import check_users

    log.configure(settings.log.format.value, settings.log.level.value)
    # Looked at here first, so that a missing file or key is told of before a port is bound.
    check_keys(settings, Policy(settings))
    check_users(settings)
    from kveil.proxy.server import serve

    raise typer.Exit(serve(settings, read))


def _guarded(work: Callable[[], int]) -> int:
    """The exit code of a worker, whose errors the command line's root doesn't see."""
    from kveil.proxy.cli.problems import tell_problem

    try:
        return work()
    except Exception as error:
        code = tell_problem(error)
        if code is None:
            raise
        return code
