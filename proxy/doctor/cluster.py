"""The cluster as a client that has logged in sees it: who it is, what its brokers speak, and where they are."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from kveil.protocol.kafka.api_table import API_TABLE, FETCH_MIN_VERSION, Action, Api, ApiKey
from kveil.proxy.addresses import UnreachableNode
from kveil.proxy.config import Mechanism, Settings
from kveil.proxy.context import Shared
from kveil.proxy.doctor.findings import Finding, failure, ok, warning
from kveil.proxy.doctor.reach import Versions
from kveil.proxy.errors import QuestionFailed
from kveil.proxy.net.own_client import own_client

LOGIN: Final = "login"
APIS: Final = "apis"
PLACES: Final = "places"

_NEEDED: Final = {ApiKey.PRODUCE: 3, ApiKey.FETCH: FETCH_MIN_VERSION, ApiKey.LIST_OFFSETS: 0, ApiKey.METADATA: 0}
"""Without these no client works, in these versions or later: record batches of magic 2 came with them."""
_MISSED: Final = {
    ApiKey.DESCRIBE_CONFIGS: "topics' settings can't be read: pin the mode in each rule, or update the brokers",
    ApiKey.SASL_AUTHENTICATE: "logins have no session that could be renewed: update the brokers",
}


class Heard:
    """A logger that keeps the reasons of what went wrong on a connection."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def warning(self, _event: str, **values: Any) -> None:
        """Keep the reason, if there is one."""
        if "reason" in values:
            self.reasons.append(str(values["reason"]))

    error = exception = warning

    def info(self, event: str, **values: Any) -> None:
        """Nothing went wrong."""

    debug = info

    def bind(self, **_: Any) -> "Heard":
        """Return the same: the names of one connection tell nothing."""
        return self


async def look_at_login(shared: Shared) -> list[Finding]:
    """Log in as the proxy does, and ask what the cluster is: all brokers' addresses are known afterwards."""
    heard = Heard()
    try:
        async with own_client(shared, logger=heard) as client:
            await client.look()
            cluster = await client.ask(ApiKey.DESCRIBE_CLUSTER, {})
            if cluster.error_code:
                raise QuestionFailed(f"the broker answered {cluster.error_code.name}")
    except QuestionFailed as error:
        reason = "; ".join(heard.reasons) or str(error)
        return [failure(LOGIN, reason, _login_remedy(shared.settings))]
    count = len(cluster.brokers)
    brokers = "1 broker" if count == 1 else f"{count} brokers"
    return [ok(LOGIN, f"as {_who(shared.settings)}; cluster {cluster.cluster_id}, {brokers}")]


def _who(settings: Settings) -> str:
    sasl = settings.upstream.own_login
    if sasl is not None:
        return f"the {sasl.mechanism} user {sasl.username}" if sasl.username else f"a client of {sasl.mechanism}"
    tls = settings.upstream.tls
    return "nobody" if tls is None or tls.cert is None else "the subject of upstream.tls.cert"


def _login_remedy(settings: Settings) -> str:
    sasl = settings.upstream.own_login
    if sasl is None:
        return (
            "if the cluster wants a login, give --command-config a client's properties with one, or set upstream.sasl; "
            "if it wants a client certificate, set upstream.tls.cert"
        )
    if sasl.mechanism in {Mechanism.OAUTHBEARER, Mechanism.AWS_MSK_IAM}:
        return "see whether upstream.sasl names the right identity, and whether the brokers know it"
    return "see whether upstream.sasl.username and the secret behind upstream.sasl.password are the broker's"


# APIs ------------------------------------------------------------------------------------------------------------


def judge_apis(versions: Versions) -> list[Finding]:
    """Compare what a broker speaks with the proxy's own table."""
    findings = [*_needed(versions), *_missed(versions), *_strange(versions)]
    if findings:
        return findings
    spoken = [row for row in _spoken() if _common(row, versions)]
    lacking = sorted(row.name for row in _spoken() if row.key not in versions)
    unknown = sorted(versions.keys() - API_TABLE.keys())
    text = f"{len(spoken)} are spoken on both sides"
    text += f"; the broker has none of {', '.join(lacking)}" if lacking else ""
    text += f"; nobody is offered the broker's API {', '.join(map(str, unknown))}, unknown here" if unknown else ""
    return [ok(APIS, text)]


def _spoken() -> list[Api]:
    return [row for row in API_TABLE.values() if row.action is not Action.REFUSE]


def _common(row: Api, versions: Versions, least: int = 0) -> bool:
    low, high = versions.get(row.key, (0, -1))
    return max(low, row.min_version, least) <= min(high, row.max_version)


def _needed(versions: Versions) -> Iterator[Finding]:
    for key, least in _NEEDED.items():
        row = API_TABLE[key]
        if not _common(row, versions, least):
            needed = f"{max(least, row.min_version)} to {row.max_version}"
            text = f"{row.name} is {_offered(key, versions)}, and the proxy needs one of {needed}"
            yield failure(APIS, text, "use brokers of Kafka 1.0 or later, or a newer Kveil if the brokers are newer")


def _missed(versions: Versions) -> Iterator[Finding]:
    for key, remedy in _MISSED.items():
        if key not in versions:
            yield warning(APIS, f"the broker has no {API_TABLE[key].name}", remedy)


def _strange(versions: Versions) -> Iterator[Finding]:
    """Yield the APIs that both have, in versions that differ: clients find them missing."""
    for row in _spoken():
        if row.key in versions and row.key not in _NEEDED and not _common(row, versions):
            spoken = f"{row.min_version} to {row.max_version}"
            text = (
                f"{row.name} is {_offered(row.key, versions)}, and the proxy speaks {spoken}: clients are offered none"
            )
            yield warning(APIS, text, "update what is older, the brokers or Kveil")


def _offered(key: int, versions: Versions) -> str:
    if key not in versions:
        return "not offered by the broker"
    low, high = versions[key]
    return f"offered by the broker in versions {low} to {high}"


# Places ----------------------------------------------------------------------------------------------------------


def judge_places(settings: Settings, brokers: Mapping[int, object]) -> list[Finding]:
    """Say whether each broker has a local place on each listener."""
    count = settings.broker_ports.count
    findings = []
    for node_id in sorted(brokers):
        beyond = (
            [one for one in settings.listeners if node_id not in settings.node_ports(one)] if node_id >= count else []
        )
        lacking = [one.label for one in beyond]
        if lacking:
            text = f"on {', '.join(lacking)}: {UnreachableNode(node_id, count)}"
            reason, _, remedy = text.rpartition(": raise ")
            findings.append(failure(PLACES, reason, f"raise {remedy}"))
    if findings:
        return findings
    ids = ", ".join(map(str, sorted(brokers)))
    return [ok(PLACES, f"each broker has a local place (node ids {ids}, and there is room for 0 to {count - 1})")]
