"""The login, what brokers speak, and whether each has a place."""

import pytest

from kveil.protocol.kafka.api_table import API_TABLE, Action, ApiKey
from kveil.proxy.config import Settings
from kveil.proxy.doctor.cluster import judge_apis, judge_places, look_at_login
from kveil.proxy.doctor.findings import Level
from tests.support.conversation import make_shared
from tests.support.scripted_broker import ScriptedBroker

ALL = {row.key: (row.min_version, row.max_version) for row in API_TABLE.values() if row.action is not Action.REFUSE}
NEWEST = max(ALL)


def judged(**changes):
    """Of a broker that speaks all, but for these APIs; None for one that it hasn't."""
    named = {ApiKey[name]: versions for name, versions in changes.items()}
    return judge_apis({key: versions for key, versions in (ALL | named).items() if versions is not None})


class TestApis:
    def test_all(self):
        (found,) = judged()
        assert (found.level, found.what) == (Level.OK, f"{len(ALL)} are spoken on both sides")

    def test_an_older_broker(self):
        (found,) = judged(SHARE_FETCH=None, FETCH=(4, 11))
        assert (found.level, found.what.endswith("the broker has none of ShareFetch")) == (Level.OK, True)

    def test_a_newer_broker(self):
        (found,) = judge_apis(ALL | {NEWEST + 1: (0, 0), ApiKey.FETCH: (4, 99)})
        assert (found.level, str(NEWEST + 1) in found.what) == (Level.OK, True)

    def test_what_is_between_brokers_is_nobodys_business(self):
        internal = next(row.key for row in API_TABLE.values() if row.action is Action.REFUSE)
        assert judge_apis(ALL | {internal: (0, 1)}) == judged()

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"PRODUCE": (0, 2)}, "Produce is offered by the broker in versions 0 to 2, and the proxy needs one of 3"),
            ({"FETCH": (0, 3)}, "Fetch is offered by the broker in versions 0 to 3, and the proxy needs one of 4"),
            ({"FETCH": (98, 99)}, "Fetch is offered by the broker in versions 98 to 99"),
            ({"METADATA": None}, "Metadata is not offered by the broker"),
        ],
    )
    def test_what_no_client_can_do_without(self, changes, said):
        (found,) = judged(**changes)
        assert (found.level, found.what.startswith(said)) == (Level.FAILURE, True)

    def test_without_settings_of_topics(self):
        (found,) = judged(DESCRIBE_CONFIGS=None)
        assert (found.level, "pin the mode" in found.remedy) == (Level.WARNING, True)

    def test_versions_that_do_not_meet(self):
        (found,) = judged(DELETE_TOPICS=(90, 91))
        assert (found.level, "clients are offered none" in found.what) == (Level.WARNING, True)

    def test_everything_is_told_at_once(self):
        assert len(judged(PRODUCE=None, FETCH=None, DESCRIBE_CONFIGS=None)) == 3


class TestPlaces:
    def judged(self, *nodes, **config):
        settings = Settings.model_validate({"upstream": {"bootstrap": ["b:1"]}, "broker_ports": {"count": 3}, **config})
        return judge_places(settings, dict.fromkeys(nodes))

    def test_in_the_range(self):
        (found,) = self.judged(2, 0)
        assert (found.level, "node ids 0, 2" in found.what) == (Level.OK, True)

    def test_beyond_it(self):
        (found,) = self.judged(0, 3)
        assert (found.level, "node id 3" in found.what) == (Level.FAILURE, True)
        assert found.remedy == "raise broker_ports.count, or give it one with nodes: {3: PORT}"

    def test_with_a_port_of_its_own(self):
        assert [found.level for found in self.judged(0, 70_000, nodes={70_000: 6000})] == [Level.OK]

    def test_on_one_listener_alone(self):
        listeners = [
            {"address": "127.0.0.1:5000", "nodes": {9: 5900}},
            {"address": "127.0.0.1:6000", "name": "gate"},
        ]
        (found,) = self.judged(9, listeners=listeners)
        assert (found.level, found.what.startswith("on gate: ")) == (Level.FAILURE, True)


class TestLogin:
    async def look(self, folder, broker, **config):
        (found,) = await look_at_login(make_shared(folder, upstream=broker.address, **config))
        return found

    async def test_the_cluster_is_named(self, tmp_path):
        async with ScriptedBroker() as broker:
            broker.answers[ApiKey.DESCRIBE_CLUSTER] = {
                "cluster_id": "abc",
                "brokers": [{"broker_id": 7, "host": "b7.example.net", "port": 9092}],
            }
            shared = make_shared(tmp_path, upstream=broker.address)
            (found,) = await look_at_login(shared)
        assert (found.level, found.what) == (Level.OK, "as nobody; cluster abc, 1 broker")
        assert list(map(str, shared.brokers.all().values())) == ["b7.example.net:9092"]

    async def test_a_refusal(self, tmp_path):
        async with ScriptedBroker() as broker:
            broker.answers[ApiKey.DESCRIBE_CLUSTER] = {"error_code": 31}
            found = await self.look(tmp_path, broker)
        assert (found.level, "cluster_authorization_failed" in found.what) == (Level.FAILURE, True)

    async def test_a_broker_that_wants_a_login(self, tmp_path):
        """It closes the connection at the first question."""
        async with ScriptedBroker() as broker:
            broker.answers[ApiKey.DESCRIBE_CLUSTER] = lambda request: request.writer.close()
            found = await self.look(tmp_path, broker)
        assert found.level is Level.FAILURE
        assert "--command-config" in found.remedy
        assert "upstream.sasl" in found.remedy

    async def test_a_login_that_fails_is_told_in_the_brokers_words(self, tmp_path, monkeypatch):
        """And nothing of the password."""
        monkeypatch.setenv("DOCTORS_PASSWORD", "swordfish")
        sasl = {"mechanism": "PLAIN", "username": "alice", "password": "env:DOCTORS_PASSWORD"}
        async with ScriptedBroker() as broker:
            broker.answers[ApiKey.SASL_HANDSHAKE] = {"mechanisms": ["PLAIN"]}
            refusal = {"error_code": 58, "error_message": "no such alice", "auth_bytes": b""}
            broker.answers[ApiKey.SASL_AUTHENTICATE] = refusal
            found = await self.look(tmp_path, broker, to_cluster={"sasl": sasl})
        assert (found.level, "no such alice" in found.what) == (Level.FAILURE, True)
        assert "swordfish" not in f"{found}"
        assert "upstream.sasl.password" in found.remedy
