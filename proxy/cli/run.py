"""`kveil run`: the proxy, by a configuration file or by flags alone."""

from functools import partial

from kveil.proxy.cli import options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.options import Flags, settings_from

app = command_app()


@app.command()
def run(
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
    """Run the proxy: seal what clients produce, open what they fetch."""
    from kveil.proxy.cli.serving import serve_until_stopped

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
    serve_until_stopped(partial(settings_from, flags))
