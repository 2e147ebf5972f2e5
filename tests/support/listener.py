"""A proxy whose listener asks its clients who they are, and what each client library needs to connect to it.

with secured_proxy(kafka.bootstrap, folder, sasl=True) as listener:
    librdkafka_produce(listener.librdkafka(login("alice")), topic, records)
"""

import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kveil.proxy.secret import Secret
from kveil.proxy.users.users import add_user
from kveil.proxy.users.users_store import change_users_file
from tests.support.certificates import Certificate
from tests.support.client_settings import aiokafka_settings, java_settings, librdkafka_settings
from tests.support.proxy import Proxy, kveil_proxy
from tests.support.security import USERS, Certificates, Login, Security


def make_users(path: Path, names: Sequence[str] = tuple(USERS)) -> Path:
    """A users file with test users."""
    for name in names:
        change_users_file(
            path, lambda content, name=name: add_user(content, name, Secret(USERS[name].encode())), make=True
        )
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class SecuredListener:
    """A running proxy, and how to reach its listener."""

    proxy: Proxy
    certificates: Certificates | None
    users: Path | None

    def security(self) -> Security:
        """Kafka's name for what it asks."""
        tls, sasl = self.certificates is not None, self.users is not None
        return {
            (False, False): Security.PLAINTEXT,
            (True, False): Security.SSL,
            (False, True): Security.SASL_PLAINTEXT,
            (True, True): Security.SASL_SSL,
        }[tls, sasl]

    def librdkafka(self, who: Login | None = None, own: Certificate | None = None) -> dict[str, Any]:
        """For confluent_kafka."""
        settings = librdkafka_settings(self.proxy.bootstrap, self.security(), self.certificates, who or Login())
        if own is not None:
            settings |= {"ssl.certificate.location": str(own.chain), "ssl.key.location": str(own.key)}
        return settings | {"log_level": 0}

    def java(self, who: Login | None = None, own: Certificate | None = None) -> dict[str, str]:
        """For a Java client's properties file."""
        settings = java_settings(self.proxy.bootstrap, self.security(), self.certificates, who or Login())
        if own is not None:
            settings |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(own.both)}
        return settings

    def aiokafka(self, who: Login | None = None, own: Certificate | None = None) -> dict[str, Any]:
        """For aiokafka."""
        settings = aiokafka_settings(self.proxy.bootstrap, self.security(), self.certificates, who or Login())
        if own is not None:
            context: ssl.SSLContext = settings["ssl_context"]
            context.load_cert_chain(own.chain, own.key)
        return settings


@contextmanager
def secured_proxy(
    upstream: str,
    folder: Path,
    *,
    tls: bool = False,
    client_ca: bool = False,
    sasl: bool = False,
    listener: Mapping[str, Any] | None = None,
    **options: Any,
) -> Iterator[SecuredListener]:
    """A running proxy with these on its one listener; `listener` and `options` are laid over."""
    certificates = Certificates.make(folder / "certificates") if tls or client_ca else None
    users = make_users(folder / "users.json") if sasl else None
    with kveil_proxy(upstream, start=False, **options) as proxy:
        (settings,) = proxy.config["listeners"]
        if certificates is not None:
            settings["tls"] = {"cert": str(certificates.broker.chain), "key": str(certificates.broker.key)}
            if client_ca:
                settings["tls"]["client_ca"] = str(certificates.authority.path)
        if users is not None:
            settings["sasl"] = {"users": str(users)}
        settings |= listener or {}
        proxy.start()
        yield SecuredListener(proxy=proxy, certificates=certificates, users=users)
        assert not proxy.events("connection_failed"), proxy.events("connection_failed")
