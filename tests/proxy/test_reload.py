"""Another configuration beside the one in force: made, refused, put in place. And the reloads of the only process."""

import asyncio
from types import SimpleNamespace

import pytest

from kveil.proxy import log, reload
from kveil.proxy.admin.metrics import Reloads
from kveil.proxy.config import ConfigError, Problem, Settings
from kveil.proxy.keys.errors import KeyUnavailable
from kveil.proxy.keys.keyfile import new_key_file
from kveil.proxy.keys.keyfile_store import create_key_file
from kveil.proxy.net.upstream import Upstream
from kveil.proxy.policy import OWN_PRINCIPAL, KeyRef
from kveil.proxy.reload import ReloadRefused, change_level, make_fresh, put_in_place, read_again, tell_changed
from kveil.proxy.reloader import Reloader
from kveil.proxy.systemd import ServiceManager
from tests.support.conversation import make_shared
from tests.support.service_manager import ServiceManagerSocket


@pytest.fixture(autouse=True)
def level_as_before():
    before = log.level()
    yield
    log.set_level(before)


@pytest.fixture
def audited(monkeypatch):
    found = []
    monkeypatch.setattr(reload, "audit", lambda kind, subject, **data: found.append((kind, subject, data)))
    return found


@pytest.fixture
def shared(tmp_path):
    return make_shared(tmp_path)


def other(shared, **sections) -> Settings:
    """The settings in force, but for these sections."""
    old = shared.settings
    keys = {"path": old.keys.path, **sections.pop("keys", {})}
    return Settings.model_validate(
        {"upstream": old.upstream, "broker_ports": old.broker_ports, "keys": keys, **sections}
    )


def take_up(shared, **sections):
    return put_in_place(shared, make_fresh(shared, other(shared, **sections), tries_keys=True))


class TestKeys:
    async def test_other_rules_leave_the_ring_what_it_knows(self, shared):
        """What was opened stays open; only what seals begins anew."""
        ring, rule = shared.keys, shared.policy.rule_for("t")
        key = await ring.renew("t", rule)
        assert take_up(shared, topics=[{"match": "t", "producers": ["alice"]}], listeners=[{}]) is None
        assert shared.keys is ring
        assert ring.opening_key("t", key.kid, key.block, rule) == key
        assert ring.sealing_key("t", rule, shared.now()) is None
        assert shared.policy.rule_for("t").producers == {"alice"}

    @pytest.mark.parametrize(
        "sections", [{"keys": {"unwrap_cache_seconds": 60}}, {"limits": {"opened_keys": 7}}], ids=str
    )
    def test_another_key_setup_is_another_ring(self, shared, sections):
        ring = shared.keys
        assert take_up(shared, **sections) is ring
        assert shared.keys is not ring
        assert shared.keys.realm == ring.realm

    async def test_what_waits_for_a_service_that_is_gone_is_told_so(self, shared):
        """By the rule that it began with; the next try goes by the new ones."""
        gone = KeyRef(provider=2, name="orders")
        with pytest.raises(KeyUnavailable, match="isn't among the configured ones any more"):
            await shared.keys.make_key("t", gone)

    def test_a_key_that_cannot_be_had_is_refused(self, shared):
        with pytest.raises(ReloadRefused, match="keys: the key keyfile:nowhere can't be used"):
            take_up(shared, topics=[{"match": "t", "key": "nowhere"}])
        assert take_up(shared, keys={"lazy": True}, topics=[{"match": "t", "key": "nowhere"}]) is not None

    def test_keys_that_are_known_are_not_tried_again(self, shared, monkeypatch):
        """An outage of their service is no reason to refuse another log level."""
        monkeypatch.setattr(reload, "check_keys", lambda *_: pytest.fail("asked"))
        take_up(shared, log={"level": "error"})

    def test_another_deployments_key_file_is_refused(self, shared, tmp_path):
        path = tmp_path / "others.json"
        create_key_file(path, new_key_file(realm="elsewhere"))
        with pytest.raises(ReloadRefused, match="belong to the realm elsewhere"):
            take_up(shared, keys={"path": path})

    def test_a_broken_key_file_is_refused(self, shared):
        shared.settings.keys.path.write_text("half of")
        with pytest.raises(ReloadRefused, match="keys: "):
            take_up(shared)


PASSWORD = {"mechanism": "PLAIN", "username": "kveil", "password": "env:HOME"}


class TestUpstream:
    def upstream(self, shared, **sections) -> Upstream:
        bootstrap = shared.settings.upstream.bootstrap
        return Upstream(other(shared, upstream={"bootstrap": bootstrap, **sections}))

    def test_a_login_that_is_the_same_keeps_its_token(self, shared):
        used = self.upstream(shared, sasl=PASSWORD)
        credentials = used.own_credentials
        used.take_over(self.upstream(shared, sasl=PASSWORD, tls={}))
        assert used.own_credentials is credentials
        assert used.way.tls is not None

    def test_another_login_takes_its_place(self, shared):
        used = self.upstream(shared, sasl=PASSWORD)
        credentials = used.own_credentials
        used.take_over(self.upstream(shared, sasl={**PASSWORD, "password": "env:PATH"}))
        assert used.own_credentials is not credentials

    def test_who_logs_in(self, shared):
        for_all = self.upstream(shared, sasl=PASSWORD)
        assert for_all.credentials_of("alice") is for_all.credentials_of(OWN_PRINCIPAL) is not None
        for_itself = self.upstream(shared, own_sasl=PASSWORD)
        assert for_itself.credentials_of(None) is for_itself.credentials_of("alice") is None
        assert for_itself.credentials_of(OWN_PRINCIPAL) is not None
        for_itself.take_over(self.upstream(shared))
        assert for_itself.credentials_of(OWN_PRINCIPAL) is None


def test_nothing_is_kept_that_a_rule_has_asked_for(shared):
    shared.awaited_keys["t"] = object()
    take_up(shared, limits={"topic_settings_seconds": 5})
    assert shared.awaited_keys == {}


class TestReading:
    def test_problems_of_the_file(self, shared):
        def read():
            raise ConfigError([Problem(path="a", text="is wrong"), Problem(path="b", text="too")])

        with pytest.raises(ReloadRefused) as refused:
            read_again(read, shared.settings)
        assert [problem.path for problem in refused.value.problems] == ["a", "b"]

    def test_what_takes_a_restart(self, shared):
        with pytest.raises(ReloadRefused, match="workers: can't change while the proxy runs"):
            read_again(lambda: other(shared, workers=2), shared.settings)


class TestTelling:
    def test_names_and_no_values(self, shared, audited):
        new = other(shared, keys={"options": {"token": "hunter2"}})
        assert tell_changed(shared.settings, new).changed == ("keys.options.token",)
        ((kind, _, data),) = audited
        assert (kind, data["paths"]) == ("config.changed", ("keys.options.token",))
        assert len(data["before"]) == len("sha256:") + 64
        assert "hunter2" not in str(audited)

    def test_nothing_is_audited_where_nothing_changed(self, shared, audited):
        assert tell_changed(shared.settings, shared.settings).changed == ()
        assert audited == []


class TestLevel:
    def test_another_one(self, audited):
        log.set_level("error")
        assert change_level("debug").changed == ("log.level",)
        assert log.level() == "debug"
        assert audited[0][2]["paths"] == ["log.level"]

    def test_the_same(self, audited):
        log.set_level("error")
        assert change_level("error").as_json() == {"changed": [], "problems": []}
        assert audited == []

    def test_none_that_there_is(self):
        (problem,) = change_level("loud").problems
        assert (problem.path, "debug, info, warning, error" in problem.text) == ("log.level", True)

    def test_a_reload_brings_back_the_configured_one(self, shared):
        log.set_level("debug")
        take_up(shared)
        assert log.level() == "info"


class Server:
    """Notes what it takes up, which may be refused."""

    def __init__(self, shared) -> None:
        self.settings = shared.settings
        self.reloads = Reloads(succeeded_at=0)
        self.taken: list[Settings] = []
        self.error: Exception | None = None
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.at_once = 0

    async def reload(self, settings, *, tries_keys):
        assert tries_keys
        self.at_once += 1
        assert self.at_once == 1
        await self.may_end.wait()
        self.at_once -= 1
        if self.error is not None:
            raise self.error
        self.settings = settings
        self.taken.append(settings)


class TestReloader:
    @pytest.fixture
    def server(self, shared):
        return Server(shared)

    async def test_one_that_succeeds(self, shared, server, audited):
        new = other(shared, log={"level": "error"})
        found = await Reloader(server, lambda: new, ServiceManager({})).reload()
        assert found == {"changed": ["log.level"], "problems": []}
        assert server.taken == [new]
        assert server.reloads.samples()["kveil_config_reload_failed"] == 0
        assert server.reloads.succeeded_at > 0

    @pytest.mark.parametrize(
        ("error", "path"), [(ReloadRefused([Problem(path="keys", text="no")]), "keys"), (RuntimeError("a bug"), "")]
    )
    async def test_one_that_fails(self, shared, server, error, path):
        server.error = error
        found = await Reloader(server, lambda: shared.settings, ServiceManager({})).reload()
        assert [problem["path"] for problem in found["problems"]] == [path]
        assert "bug" not in str(found)
        assert server.reloads.samples()["kveil_config_reload_failed"] == 1
        assert server.reloads.succeeded_at == 0

    async def test_one_after_the_other(self, shared, server):
        """At a time there is one, and the service manager hears of each."""
        server.may_end.clear()
        with ServiceManagerSocket() as heard:
            one = Reloader(server, lambda: shared.settings, ServiceManager(heard.environment))
            one.begin()
            second = asyncio.create_task(one.reload())
            server.may_end.set()
            await second
            states = [line.split("\n")[0] for line in heard.rest()]
        assert states == ["RELOADING=1", "READY=1"] * 2
        assert len(server.taken) == 2


async def test_a_ring_is_closed_when_its_calls_have_ended(monkeypatch):
    monkeypatch.setattr(reload, "RETIRED_SECONDS", 0)
    closed = asyncio.Event()

    async def close():
        closed.set()

    retired = reload.Retired()
    retired.add(SimpleNamespace(close=close))
    await asyncio.wait_for(closed.wait(), 5)
    await retired.close()


async def test_a_ring_is_closed_at_the_end():
    calls = []

    async def close():
        calls.append("closed")

    retired = reload.Retired()
    retired.add(SimpleNamespace(close=close))
    await retired.close()
    assert calls == ["closed"]
