"""`kveil producer`: the proxy on localhost:5000, in one direction."""

from functools import partial
from typing import Final

from kveil.proxy.cli import options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.options import Flags, one_way_settings

ADDRESS: Final = "127.0.0.1:5000"

app = command_app()


@app.command()
def producer(
    *,
    config: options.ConfigFile = None,
    upstream: options.UpstreamServers = None,
    listen: options.Listen = None,
    keys: options.KeyPath = None,
    lazy_keys: options.LazyKeys = None,
    tls: options.Tls = None,
    tls_ca: options.TlsCa = None,
    workers: options.Workers = None,
    log_level: options.LogLevel = None,
    log_format: options.LogFormat = None,
) -> None:
    """Run the proxy on localhost:5000: seal what clients produce, and hand out no opened record."""
    from kveil.proxy.cli.serving import serve_until_stopped
    from kveil.proxy.config import Direction

    flags = Flags(
        config=config,
        upstream=upstream,
        listen=listen,
        keys=keys,
        lazy_keys=lazy_keys,
        tls=tls,
        tls_ca=tls_ca,
        workers=workers,
        log_level=log_level,
        log_format=log_format,
    )
    serve_until_stopped(partial(one_way_settings, flags, Direction.PRODUCE, ADDRESS))
