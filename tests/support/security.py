"""How a cluster's client listener is protected, and who may log in."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.support.certificates import Certificate, CertificateAuthority

USERS = {"admin": "admin-secret", "alice": "alice-secret", "bob": "bob-secret"}
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
_MODULES = "org.apache.kafka.common.security"


class Security(Enum):
    """Kafka's four security protocols."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def tls(self) -> bool:
        """Whether the listener speaks TLS."""
        return self in {Security.SSL, Security.SASL_SSL}

    @property
    def sasl(self) -> bool:
        """Whether a client must log in."""
        return self in {Security.SASL_PLAINTEXT, Security.SASL_SSL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user and the mechanism to log in with."""

    username: str = "alice"
    password: str = USERS["alice"]
    mechanism: str = "PLAIN"


def login(username: str, mechanism: str = "PLAIN") -> Login:
    """The login of one of the test users."""
    return Login(username=username, password=USERS[username], mechanism=mechanism)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """What a TLS cluster and its clients need."""

    authority: CertificateAuthority
    broker: Certificate
    client: Certificate

    @classmethod
    def make(cls, folder: Path) -> "Certificates":
        """A new authority with a broker's and a client's certificate."""
        authority = CertificateAuthority(folder)
        return cls(authority=authority, broker=authority.issue("broker"), client=authority.issue("client", hosts=()))


def jaas_line(who: Login) -> str:
    """The `sasl.jaas.config` of a Java client."""
    if who.mechanism == "OAUTHBEARER":
        module = f"{_MODULES}.oauthbearer.OAuthBearerLoginModule"
        return f'{module} required unsecuredLoginStringClaim_sub="{who.username}";'
    kind = "plain.Plain" if who.mechanism == "PLAIN" else "scram.Scram"
    return f'{_MODULES}.{kind}LoginModule required username="{who.username}" password="{who.password}";'


def listener_properties(listener: str, security: Security, certificates: Certificates | None) -> dict[str, str]:
    """A broker's settings for one protected listener."""
    prefix = f"listener.name.{listener.lower()}."
    settings: dict[str, str] = {}
    if security.tls:
        assert certificates is not None
        settings |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(certificates.broker.both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(certificates.authority.path),
            "ssl.client.auth": "requested",
        }
    if security.sasl:
        accounts = " ".join(f'user_{name}="{password}"' for name, password in USERS.items())
        plain, scram = f"{_MODULES}.plain.PlainLoginModule", f"{_MODULES}.scram.ScramLoginModule"
        bearer = f"{_MODULES}.oauthbearer.OAuthBearerLoginModule"
        settings |= {
            "sasl.enabled.mechanisms": ",".join(MECHANISMS),
            "plain.sasl.jaas.config": f"{plain} required {accounts};",
            "scram-sha-256.sasl.jaas.config": f"{scram} required;",
            "scram-sha-512.sasl.jaas.config": f"{scram} required;",
            # Unsecured tokens: any subject is believed, which is what a test needs.
            "oauthbearer.sasl.jaas.config": f'{bearer} required unsecuredLoginStringClaim_sub="broker";',
        }
    return {prefix + key: value for key, value in settings.items()}


def scram_arguments() -> list[str]:
    """What `StorageTool format` needs to know the users' SCRAM credentials."""
    return [
        argument
        for name, password in USERS.items()
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        for argument in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
    ]


def properties_text(settings: Mapping[str, str]) -> str:
    """Settings as a Java properties file."""
    return "".join(f"{key}={value}\n" for key, value in settings.items())
