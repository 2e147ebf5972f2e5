"""Settings to reach a cluster, in the words of each client library."""

import ssl
from typing import Any

from tests.support.security import Certificates, Login, Security, jaas_line


def librdkafka_settings(
    bootstrap: str, security: Security, certificates: Certificates | None, login: Login
) -> dict[str, Any]:
    """For confluent_kafka."""
    settings: dict[str, Any] = {"bootstrap.servers": bootstrap, "security.protocol": security.value}
    if security.tls:
        assert certificates is not None
        settings["ssl.ca.location"] = str(certificates.authority.path)
    if security.sasl:
        settings["sasl.mechanism"] = login.mechanism
        if login.mechanism == "OAUTHBEARER":
            settings["enable.sasl.oauthbearer.unsecure.jwt"] = True
            settings["sasl.oauthbearer.config"] = f"principal={login.username}"
        else:
            settings |= {"sasl.username": login.username, "sasl.password": login.password}
    return settings


def java_settings(
    bootstrap: str, security: Security, certificates: Certificates | None, login: Login
) -> dict[str, str]:
    """For a Java client's properties file."""
    settings = {"bootstrap.servers": bootstrap, "security.protocol": security.value}
    if security.tls:
        assert certificates is not None
        settings["ssl.truststore.type"] = "PEM"
        settings["ssl.truststore.location"] = str(certificates.authority.path)
    if security.sasl:
        settings["sasl.mechanism"] = login.mechanism
        settings["sasl.jaas.config"] = jaas_line(login)
    return settings


def aiokafka_settings(
    bootstrap: str, security: Security, certificates: Certificates | None, login: Login
) -> dict[str, Any]:
    """For aiokafka: everything but OAUTHBEARER, which it wants as an object."""
    settings: dict[str, Any] = {"bootstrap_servers": bootstrap, "security_protocol": security.value}
    if security.tls:
        assert certificates is not None
        settings["ssl_context"] = ssl.create_default_context(cafile=str(certificates.authority.path))
    if security.sasl:
        settings |= {
            "sasl_mechanism": login.mechanism,
            "sasl_plain_username": login.username,
            "sasl_plain_password": login.password,
        }
    return settings
