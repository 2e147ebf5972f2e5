"""All checks together, against brokers that answer as the test says."""

import asyncio

import pytest

from kveil.protocol.kafka.api_table import ApiKey
from kveil.proxy.config import Settings
from kveil.proxy.doctor import canary
from kveil.proxy.doctor.checks import Examined, Order, look_at_users
from kveil.proxy.doctor.examination import Listener, examine
from kveil.proxy.doctor.findings import Level, exit_code
from tests.support.conversation import key_file
from tests.support.scripted_broker import ScriptedBroker

QUIET = Listener(found=lambda _: None, waiting=lambda _: None)


def settings_of(folder, *bootstrap, **config):
    folder.chmod(0o700)
    keys = {"path": str(key_file(folder))}
    return Settings.model_validate({"upstream": {"bootstrap": list(bootstrap)}, "keys": keys, **config})


async def run(settings, **order):
    examined = Examined(settings, Order(**order))
    try:
        return await examine(examined.checks(), QUIET)
    finally:
        await examined.close()


def levels(findings):
    """The worst level of each check."""
    found = {}
    for finding in findings:
        found[finding.check] = max(finding.level, found.get(finding.check, Level.OK), key=list(Level).index)
    return found


@pytest.fixture
async def broker():
    async with ScriptedBroker() as running:
        running.answers[ApiKey.DESCRIBE_CLUSTER] = {
            "cluster_id": "abc",
            "brokers": [{"broker_id": 1, "host": "127.0.0.1", "port": running.port}],
        }
        yield running


async def test_nothing_is_written_unless_wanted(tmp_path, broker):
    found = await run(settings_of(tmp_path, broker.address), canary=False, topics=["orders"])
    assert not {ApiKey.CREATE_TOPICS, ApiKey.PRODUCE, ApiKey.DELETE_TOPICS} & set(broker.apis())
    assert levels(found)["canary"] is Level.SKIPPED
    assert exit_code(found) == 3  # of the limit of orders


async def test_one_of_the_servers_is_enough(tmp_path, broker, dead_port):
    """To find the others by; but it is told."""
    found = await run(settings_of(tmp_path, f"127.0.0.1:{dead_port}", broker.address), canary=False)
    assert (levels(found)["connection"], levels(found)["login"]) == (Level.WARNING, Level.OK)


async def test_without_a_cluster_the_rest_is_skipped(tmp_path, dead_port):
    found = levels(await run(settings_of(tmp_path, f"127.0.0.1:{dead_port}"), topics=["orders"]))
    assert found.pop("connection") is Level.FAILURE
    assert {check for check, level in found.items() if level is Level.SKIPPED} == {
        "apis",
        "login",
        "places",
        "brokers",
        "topics",
        "canary",
    }
    assert (found["keys"], found["files"]) == (Level.OK, Level.OK)


async def test_without_keys_the_cluster_is_looked_at_all_the_same(tmp_path, broker):
    settings = settings_of(tmp_path, broker.address)
    settings.keys.path.chmod(0o644)
    found = levels(await run(settings, topics=["orders"]))
    assert (found["files"], found["keys"], found["canary"]) == (Level.FAILURE, Level.FAILURE, Level.SKIPPED)
    assert (found["login"], found["topic orders"]) == (Level.OK, Level.WARNING)


async def test_a_broker_is_looked_at_where_it_says_that_it_is(tmp_path, broker, dead_port):
    broker.answers[ApiKey.DESCRIBE_CLUSTER] = {
        "cluster_id": "abc",
        "brokers": [
            {"broker_id": 0, "host": "127.0.0.1", "port": broker.port},
            {"broker_id": 1, "host": "127.0.0.1", "port": dead_port},
        ],
    }
    found = await run(settings_of(tmp_path, broker.address), canary=False)
    (bad,) = [finding for finding in found if finding.level is Level.FAILURE]
    assert (bad.check, str(dead_port) in bad.what) == ("broker 1 connection", True)


async def test_a_broker_without_a_place(tmp_path, broker):
    broker.answers[ApiKey.DESCRIBE_CLUSTER] = {
        "cluster_id": "abc",
        "brokers": [{"broker_id": 70_000, "host": "127.0.0.1", "port": broker.port}],
    }
    found = await run(settings_of(tmp_path, broker.address), canary=False)
    (bad,) = [finding for finding in found if finding.level is Level.FAILURE]
    assert (bad.check, "70000" in bad.remedy) == ("places", True)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"match": "*", "seal": "none"}, "leave a temporary topic plain (topics[0] *)"),
        ({"match": "*", "key": "{topic}"}, "would need a key of its own"),
        ({"match": "*", "mode": "record", "key_per": "record_key"}, "a key for each record key"),
    ],
)
async def test_rules_that_leave_no_temporary_topic(tmp_path, broker, rule, said):
    found = (await run(settings_of(tmp_path, broker.address, topics=[rule])))[-1]
    assert (found.check, found.level, said in found.what) == ("canary", Level.SKIPPED, True)
    assert "--canary TOPIC" in found.remedy
    assert ApiKey.CREATE_TOPICS not in broker.apis()


async def test_a_temporary_topic_that_may_not_be_made(tmp_path, broker):
    broker.answers[ApiKey.CREATE_TOPICS] = {"topics": [{"name": "x", "error_code": 29}]}
    found = (await run(settings_of(tmp_path, broker.address)))[-1]
    assert (found.level, "topic_authorization_failed" in found.what) == (Level.WARNING, True)
    assert "_kveil.doctor.*" in found.remedy


async def test_a_temporary_topic_is_deleted_whatever_happens(tmp_path, broker):
    """And told of if that can't be."""
    broker.answers[ApiKey.CREATE_TOPICS] = {"topics": [{"name": "x", "error_code": 0}]}
    broker.answers[ApiKey.METADATA] = {"topics": [{"name": "x", "error_code": 29}]}
    broker.answers[ApiKey.DELETE_TOPICS] = {"responses": [{"name": "x", "error_code": 0}]}
    found = (await run(settings_of(tmp_path, broker.address)))[-1]
    assert (found.check, found.level, "authorization" in found.what) == ("canary", Level.FAILURE, True)
    assert broker.apis()[-1] == ApiKey.DELETE_TOPICS
    broker.answers[ApiKey.DELETE_TOPICS] = {"responses": [{"name": "x", "error_code": 29}]}
    failed, left = (await run(settings_of(tmp_path, broker.address)))[-2:]
    assert failed.level is Level.FAILURE
    assert (left.level, "kafka-topics.sh --delete" in left.remedy) == (Level.WARNING, True)


@pytest.fixture
async def mute(broker):
    """A broker that makes topics, and says nothing more of them."""
    broker.answers[ApiKey.CREATE_TOPICS] = {"topics": [{"name": "x", "error_code": 0}]}
    broker.answers[ApiKey.DELETE_TOPICS] = {"responses": [{"name": "x", "error_code": 0}]}
    broker.silent.add(ApiKey.METADATA)
    return broker


async def test_a_canary_that_never_comes_back(tmp_path, mute, monkeypatch):
    monkeypatch.setattr(canary, "_ROUND_TRIP_SECONDS", 0.1)
    found = (await run(settings_of(tmp_path, mute.address)))[-1]
    assert (found.level, "wasn't back within 0.1 s" in found.what) == (Level.FAILURE, True)
    assert mute.apis()[-1] == ApiKey.DELETE_TOPICS


async def test_a_user_who_ends_it_leaves_no_topic(tmp_path, mute):
    running = asyncio.create_task(run(settings_of(tmp_path, mute.address)))
    await mute.until(lambda seen: ApiKey.METADATA in seen.apis())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert mute.apis()[-1] == ApiKey.DELETE_TOPICS


def test_users_files(tmp_path):
    users = tmp_path / "users.json"
    settings = settings_of(tmp_path, "b:1", listeners=[{"address": "127.0.0.1:5000", "sasl": {"users": str(users)}}])
    (found,) = look_at_users(settings)
    assert (found.level, str(users) in found.what) == (Level.FAILURE, True)
    assert look_at_users(settings_of(tmp_path, "b:1")) == []
