"""What `kveil init` writes: one configuration for each Kafka service and way to log in there.

What only its owner knows is `"<fill in: ...>"`, and `kveil check` refuses it. Ports and mechanisms are those of the
services' own documentation.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final


class For(StrEnum):
    """Who has the cluster, as `--for` has it."""

    CONFLUENT = "confluent"
    MSK = "msk"
    AIVEN = "aiven"
    REDPANDA = "redpanda"
    PLAIN = "plain"


OWN_LOGIN: Final = """\
  # Kveil logs in, and the application needs no secret of the cluster: its security.protocol is PLAINTEXT.
  # For clients that log in by themselves:  sasl: passthrough"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Where a cluster is had. `logins` has what stands under `upstream`, the usual way to log in first."""

    title: str
    logins: Mapping[str, str]
    broker_ports: int
    about_ids: str
    """Which node ids its brokers have."""


CONFLUENT: Final = Service(
    title="Confluent Cloud",
    logins={
        "api-key": f"""\
  # In the console: Cluster settings, Endpoints, Bootstrap server.
  bootstrap: ["<fill in: the bootstrap server, as in pkc-12345.eu-central-1.aws.confluent.cloud:9092>"]
  tls: {{}}                          # the system's roots
{OWN_LOGIN}
  sasl:
    mechanism: PLAIN
    username: "<fill in: an API key of this cluster>"
    password: "<fill in: where the API key's secret is, as in file:/etc/kveil/api-secret or env:API_SECRET>"
"""
    },
    broker_ports=100,
    about_ids="They count from 0.",
)

MSK: Final = Service(
    title="Amazon MSK",
    logins={
        "iam": f"""\
  # aws kafka get-bootstrap-brokers, BootstrapBrokerStringSaslIam: port 9098, from elsewhere than the VPC 9198.
  bootstrap: ["<fill in: a bootstrap broker, as in b-1.orders.a1b2c3.c2.kafka.eu-central-1.amazonaws.com:9098>"]
  tls: {{}}                          # the system's roots
{OWN_LOGIN}
  sasl:
    mechanism: AWS_MSK_IAM         # pip install 'kveil[msk]'; credentials as AWS's own tools find them
    region: "<fill in: the cluster's region, as in eu-central-1>"
""",
        "scram": f"""\
  # aws kafka get-bootstrap-brokers, BootstrapBrokerStringSaslScram: port 9096, from elsewhere than the VPC 9196.
  bootstrap: ["<fill in: a bootstrap broker, as in b-1.orders.a1b2c3.c2.kafka.eu-central-1.amazonaws.com:9096>"]
  tls: {{}}                          # the system's roots
{OWN_LOGIN}
  sasl:
    mechanism: SCRAM-SHA-512       # the only SCRAM that MSK has; the secret's name begins with AmazonMSK_
    username: "<fill in: the username that the secret of Secrets Manager has>"
    password: "<fill in: where its password is, as in file:/etc/kveil/msk-password or env:MSK_PASSWORD>"
""",
    },
    broker_ports=100,
    about_ids="They count from 1.",
)

_AIVEN_CA: Final = """\
    ca: "<fill in: path of the project's CA certificate, as in /etc/kveil/ca.pem>\""""

AIVEN: Final = Service(
    title="Aiven for Apache Kafka",
    logins={
        "scram": f"""\
  # In the console: Connection information, Authentication method SASL (switched on under the advanced settings).
  bootstrap: ["<fill in: host and port for SASL, as in kafka-1-project.aivencloud.com:12345>"]
  tls:
{_AIVEN_CA}
{OWN_LOGIN}
  sasl:
    mechanism: SCRAM-SHA-256
    username: "<fill in: the service user>"
    password: "<fill in: where its password is, as in file:/etc/kveil/aiven-password or env:AIVEN_PASSWORD>"
""",
        "certificate": f"""\
  # In the console: Connection information, Authentication method Client certificate.
  bootstrap: ["<fill in: host and port for client certificates, as in kafka-1-project.aivencloud.com:12345>"]
  # Kveil shows the certificate, and the application needs no secret of the cluster: its security.protocol is PLAINTEXT.
  tls:
{_AIVEN_CA}
    cert: "<fill in: path of the access certificate, as in /etc/kveil/service.cert>"
    key: "<fill in: path of the access key, as in /etc/kveil/service.key>"
""",
    },
    broker_ports=300,
    about_ids="A node that takes another one's place may have a higher id.",
)

REDPANDA: Final = Service(
    title="Redpanda Cloud",
    logins={
        "scram": f"""\
  # In the console: Overview, How to connect, Kafka API, Bootstrap server URL.
  bootstrap: ["<fill in: the bootstrap server, as in seed-1a2b3c.d4e5f6.fmc.prd.cloud.redpanda.com:9092>"]
  tls: {{}}                          # the system's roots
{OWN_LOGIN}
  sasl:
    mechanism: SCRAM-SHA-256       # a user has one mechanism: the one that it was made with
    username: "<fill in: the user, made under Security>"
    password: "<fill in: where its password is, as in file:/etc/kveil/redpanda-password or env:REDPANDA_PASSWORD>"
"""
    },
    broker_ports=300,
    about_ids="A node that takes another one's place has a higher id.",
)

PLAIN: Final = Service(
    title="a cluster of one's own",
    logins={
        "passthrough": """\
  bootstrap: ["<fill in: a broker, as in broker-1.example.net:9092>"]
  # Plaintext. With TLS:
  # tls: {}                        # the system's roots; {ca: FILE} for others
  sasl: passthrough                # a client's own login is passed on
"""
    },
    broker_ports=100,
    about_ids="They are node.id in the brokers' own configuration.",
)

SERVICES: Final[Mapping[For, Service]] = {
    For.CONFLUENT: CONFLUENT,
    For.MSK: MSK,
    For.AIVEN: AIVEN,
    For.REDPANDA: REDPANDA,
    For.PLAIN: PLAIN,
}


def configuration(name: For, login: str, key_path: Path) -> str:
    """The whole file as YAML, for a service and one of its logins."""
    service = SERVICES[name]
    return f"""\
# Kveil before {service.title}, written by: kveil init --for {name} --login {login}
# Put your own in the place of each "<fill in: ...>". Until then `kveil check` refuses this file, and says where.
# No secret belongs here: a password is named by its place, file:PATH or env:NAME. docs/configuration.md has every key.

# All data is bound to this name, so it can't be changed later.
realm: "<fill in: a name for this deployment, as in production>"

upstream:
{service.logins[login]}
listeners:
  - address: 127.0.0.1:5000        # bootstrap.servers of the clients

# The broker with node id N is at port 5001 + N. {service.about_ids}
broker_ports:
  count: {service.broker_ports:<26}# ids from here on need a line in nodes, as in nodes: {{1200: 6200}}

keys:
  provider: keyfile                # or a key service, which keeps the keys: docs/keys.md
  path: {json.dumps(str(key_path))}

# The first rule that matches decides. What no rule names is sealed.
topics:
  - match: "metrics.*"             # an example: change it, or take it out
    seal: none                     # plain, on purpose
"""
