"""From the settings to a key ring, or to the reason why not."""

import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import KeyBlock
from kveil.proxy.admin.metrics import Metrics
from kveil.proxy.config import KeyService, Settings, load
from kveil.proxy.keys.errors import KeyDenied, KeyFileError, KeyRefused, KeySetupError, KeyUnavailable
from kveil.proxy.keys.opening import check_keys, open_key_ring, open_provider
from kveil.proxy.keys.provider import KeyContext, KeyDescription
from kveil.proxy.keys.ring import KeyRing
from kveil.proxy.policy import Policy


def settings_of(path: Path, **variables: str) -> Settings:
    environ = {f"KVEIL_{name}": value for name, value in variables.items()}
    return load(None, {"KVEIL_UPSTREAM__BOOTSTRAP": "a:1", "KVEIL_KEYS__PATH": str(path), **environ})


def opened(path: Path, **variables: str) -> KeyRing:
    settings = settings_of(path, **variables)
    return open_key_ring(settings, Policy(settings), Metrics())


def checked(path: Path, **variables: str) -> str:
    settings = settings_of(path, **variables)
    return check_keys(settings, Policy(settings)).name


async def test_a_ring_that_seals(path):
    ring = opened(path)
    assert ring.realm == "test"
    assert ring.hiding_key("orders") is not None


def test_the_realm_may_be_named(path):
    assert checked(path, REALM="test") == opened(path, REALM="test").realm == "test"


def test_another_realm_is_refused(path):
    with pytest.raises(KeyFileError, match=r"configuration says production.*belongs to test"):
        checked(path, REALM="production")


def test_keys_that_the_rules_name_must_be_there_and_all_that_are_not_are_told(path):
    assert checked(path, TOPICS="[{match: a, key: eu}]")
    with pytest.raises(KeySetupError) as caught:
        checked(path, TOPICS="[{match: a, key: us, accept_keys: [old]}, {match: b, key: eu}]")
    old, us = str(caught.value).splitlines()
    assert old.startswith("the key keyfile:old can't be used: ")
    assert us.startswith("the key keyfile:us can't be used: ")
    assert "`kveil keys add us` makes it" in us


def test_keys_that_are_lacking_may_come_later(path):
    assert checked(path, TOPICS="[{match: a, key: us}]", KEYS__LAZY="true") == "test"


def test_keys_of_plain_rules_need_not_be_there(path):
    assert checked(path, TOPICS="[{match: a, seal: none}]")


def test_keys_that_depend_on_the_topic_can_not_be_looked_at(path):
    assert checked(path, TOPICS="[{match: '*', key: 'none-{topic}'}]")


def test_a_missing_file(tmp_path):
    with pytest.raises(KeyFileError, match="kveil keys init"):
        checked(tmp_path / "nope.json")


def test_the_limits_reach_the_ring(path):
    ring = opened(path, LIMITS__OPENED_KEYS="7", KEYS__UNWRAP_CACHE_SECONDS="60", KEYS__SEAL_LEASE_SECONDS="30")
    assert (ring._opened._entries, ring._opened._seconds, ring._leases._seconds) == (7, 60, 30)


def test_asking_for_every_key_at_each_use_is_warned_of(path):
    with capture_logs() as lines:
        opened(path, KEYS__UNWRAP_CACHE_SECONDS="0")
    assert [(line["event"], line["log_level"]) for line in lines] == [("keys_asked_for_at_each_use", "warning")]
    with capture_logs() as lines:
        opened(path, KEYS__UNWRAP_CACHE_SECONDS="1")
    assert lines == []


class Own:
    """A provider of somebody's own."""

    id = registry.PRIVATE_USE

    def __init__(self, place: str = "nowhere", fault: str = "") -> None:
        self.place = place
        self._fault = fault
        self.closed = False
        OWN.append(self)

    async def wrap(self, name: str, secret: bytes, context: KeyContext) -> KeyBlock:
        if self._fault:
            raise KeyUnavailable(self._fault)
        return KeyBlock(self.id, name, registry.SERVICE_AEAD, "1", secret[::-1])

    async def unwrap(self, block: KeyBlock, context: KeyContext) -> bytes:
        if len(block.wrapped) != 32:
            raise KeyRefused("not mine")
        return block.wrapped[::-1]

    async def describe(self, name: str) -> KeyDescription:
        if name != "default":
            raise KeyDenied(f"no key {name}")
        return KeyDescription(name=name, primary="1", versions=("1",))

    async def health(self) -> None:
        """Always well."""

    def refresh(self) -> bool:
        return False

    async def close(self) -> None:
        self.closed = True


OWN: list[Own] = []


class Other(Own):
    id = registry.KEY_FILE


@pytest.fixture
def module(monkeypatch):
    name = "keys_of_my_own"
    monkeypatch.setitem(sys.modules, name, sys.modules[__name__])
    OWN.clear()
    return name


def test_a_provider_of_one_s_own(path, module):
    variables = {"KEYS__PROVIDER": f"{module}:Own", "KEYS__OPTIONS": "{place: here}"}
    assert checked(path, **variables) == "test"
    assert [(one.place, one.closed) for one in OWN] == [("here", True)]
    assert list(opened(path, **variables).providers) == [registry.PRIVATE_USE]


async def test_a_ring_of_its_own_seals_and_opens(path, module):
    settings = settings_of(path, KEYS__PROVIDER=f"{module}:Own")
    policy = Policy(settings)
    ring, other = (open_key_ring(settings, policy, Metrics()) for _ in range(2))
    rule = policy.rule_for("orders")
    key = await ring.renew("orders", rule)
    assert (await other.unwrap("orders", 0, key.kid, key.block, rule)).secret == key.secret
    await ring.close()
    assert [one.closed for one in OWN] == [True, False]


@pytest.mark.parametrize(
    ("provider", "options", "reason"),
    [
        ("no_such_module:Own", "{}", "No module named 'no_such_module'"),
        ("keys_of_my_own:Nobody", "{}", "Nobody"),
        ("keys_of_my_own:Own", "{colour: red}", "colour"),
        ("keys_of_my_own:Other", "{}", "its id must be 128"),
    ],
)
def test_a_class_that_can_not_be_used(path, module, provider, options, reason):
    with pytest.raises(KeySetupError, match=f"keys.provider {provider}.*{reason}"):
        checked(path, KEYS__PROVIDER=provider, KEYS__OPTIONS=options)


def test_a_service_that_is_down_at_the_start(path, module):
    with pytest.raises(KeySetupError, match="the key module:default can't be used: the line is dead"):
        checked(path, KEYS__PROVIDER=f"{module}:Own", KEYS__OPTIONS="{fault: the line is dead}")
    assert OWN[0].closed


def test_who_only_reads_needs_no_right_to_wrap(path, module):
    variables = {"KEYS__PROVIDER": f"{module}:Own", "KEYS__OPTIONS": "{fault: denied}"}
    listeners = "[{address: '127.0.0.1:5000', direction: consume}]"
    assert checked(path, LISTENERS=listeners, **variables)
    with pytest.raises(KeySetupError, match="no key old"):
        checked(path, LISTENERS=listeners, TOPICS="[{match: a, accept_keys: [old]}]", **variables)


def test_a_realm_without_a_file(tmp_path, module):
    variables = {"KEYS__PROVIDER": f"{module}:Own"}
    assert checked(tmp_path / "nope.json", REALM="production", **variables) == "production"
    assert opened(tmp_path / "nope.json", REALM="production", **variables).hiding_key("orders") is None
    with pytest.raises(KeySetupError, match=r"realm: nothing names the deployment: `kveil keys init`"):
        checked(tmp_path / "nope.json", **variables)


@pytest.mark.parametrize("service", ["aws", "gcp", "azure", "pkcs11"])
def test_a_service_whose_library_is_not_installed(path, service, monkeypatch):
    monkeypatch.setitem(sys.modules, f"kveil.proxy.keys.providers.{service}", None)
    with pytest.raises(KeySetupError, match=rf"pip install 'kveil\[{service}\]'"):
        open_provider(KeyService(service), settings_of(path).keys)
