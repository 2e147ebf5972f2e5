"""Whether keys can be used as the proxy uses them."""

import sys

import pytest

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.header import KeyBlock
from kveil.proxy.admin.metrics import Metrics
from kveil.proxy.config import Settings
from kveil.proxy.doctor.findings import Level
from kveil.proxy.doctor.keys import look_at_keys
from kveil.proxy.keys.calls import KeyCalls
from kveil.proxy.keys.errors import KeyDenied
from kveil.proxy.keys.hiding import wrap_new_hiding_key
from kveil.proxy.keys.keyfile import KeyFile
from kveil.proxy.keys.keyfile_store import create_key_file
from kveil.proxy.keys.provider import KeyDescription
from kveil.proxy.policy import Policy
from tests.support.conversation import key_file

MODULE = "keys_for_the_doctor"
CALLS = []
BROKEN = set()


class Service:
    """A key service that says yes, but for what is broken. It counts what it is asked."""

    id = registry.PRIVATE_USE
    place = "https://keys.example.net"

    async def wrap(self, name, secret, context):
        self._ask("wrap", name)
        return KeyBlock(self.id, name, registry.SERVICE_AEAD, "1", secret)

    async def unwrap(self, block, context):
        self._ask("unwrap", block.name)
        return bytes(32) if "wrong" in BROKEN else block.wrapped

    async def describe(self, name):
        self._ask("describe", name)
        return KeyDescription(name=name, primary="1", versions=("1",))

    def _ask(self, what, name):
        CALLS.append((what, name))
        if what in BROKEN:
            raise KeyDenied(f"{name} may not {what}")

    async def health(self):
        pass

    def refresh(self):
        return False

    async def close(self):
        CALLS.append(("close", ""))


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setitem(sys.modules, MODULE, sys.modules[__name__])
    CALLS.clear()
    BROKEN.clear()


def settings_of(folder, **config):
    keys = {"path": str(key_file(folder)), **config.pop("keys", {})}
    return Settings.model_validate({"upstream": {"bootstrap": ["b:1"]}, "keys": keys, **config})


def of_service(folder, **config):
    return settings_of(folder, keys={"provider": f"{MODULE}:Service", **config.pop("keys", {})}, **config)


async def look(settings, *topics):
    return await look_at_keys(settings, Policy(settings), topics)


async def test_a_key_file(tmp_path):
    found = await look(settings_of(tmp_path))
    assert [finding.level for finding in found] == [Level.OK, Level.OK]
    assert found[0].what == "keyfile:default wraps and unwraps"
    assert "key-hiding key of realm test" in found[1].what


async def test_a_key_that_is_not_there(tmp_path):
    settings = settings_of(tmp_path, topics=[{"match": "*", "key": "eu", "accept_keys": ["us"]}])
    good, lacking, _ = await look(settings)
    assert good.what == "keyfile:eu wraps and unwraps"
    assert (lacking.level, lacking.check) == (Level.FAILURE, "keys")
    assert "has no key us" in lacking.what
    assert str(settings.keys.path) in lacking.remedy


async def test_a_key_file_that_is_not_there(tmp_path):
    settings = settings_of(tmp_path)
    settings.keys.path.unlink()
    (found,) = await look(settings)
    assert (found.level, "there is no key file" in found.what) == (Level.FAILURE, True)


async def test_a_key_file_that_others_may_read(tmp_path):
    settings = settings_of(tmp_path)
    settings.keys.path.chmod(0o644)
    (found,) = await look(settings)
    assert (found.level, "chmod 600" in found.what) == (Level.FAILURE, True)


async def test_the_key_of_each_topic(tmp_path):
    """Which only the topic's name tells."""
    settings = settings_of(tmp_path, topics=[{"match": "*", "key": "{topic}"}])
    assert (await look(settings, "eu"))[0].what == "keyfile:eu wraps and unwraps"
    assert (await look(settings, "us"))[0].level is Level.FAILURE
    assert len(await look(settings)) == 1


async def test_a_plain_topic_needs_none(tmp_path):
    settings = settings_of(tmp_path, topics=[{"match": "*", "seal": "none"}])
    assert [finding.what for finding in await look(settings, "logs") if "wraps" in finding.what] == []


@pytest.mark.parametrize(
    ("directions", "expected"),
    [
        (["both"], ["wrap", "unwrap", "close"]),
        (["produce", "consume"], ["wrap", "unwrap", "close"]),
        (["produce"], ["wrap", "close"]),
        (["consume"], ["describe", "close"]),
    ],
)
async def test_a_key_is_used_as_the_listeners_use_it(tmp_path, directions, expected):
    """One that only seals may lack the right to open, and the other way round."""
    listeners = [{"address": f"127.0.0.1:{5000 + at * 100}", "direction": one} for at, one in enumerate(directions)]
    found = await look(of_service(tmp_path, listeners=listeners))
    assert {finding.level for finding in found} == {Level.OK}
    assert [what for what, _ in CALLS] == expected


@pytest.mark.parametrize(
    ("broken", "said"), [("wrap", "may not wrap"), ("unwrap", "may not unwrap"), ("wrong", "doesn't unwrap what it")]
)
async def test_a_service_that_says_no(tmp_path, broken, said):
    BROKEN.add(broken)
    found = (await look(of_service(tmp_path)))[0]
    assert (found.level, said in found.what) == (Level.FAILURE, True)
    assert Service.place in found.remedy


async def test_how_long_a_service_may_be_away(tmp_path):
    found = (await look(of_service(tmp_path)))[-1]
    assert (found.level, "sealing goes on for 300 s" in found.what) == (Level.OK, True)
    found = (await look(of_service(tmp_path, keys={"unwrap_cache_seconds": 0})))[-1]
    assert (found.level, "unwrap_cache_seconds" in found.what) == (Level.WARNING, True)


async def test_a_realm_without_a_key_hiding_key(tmp_path):
    """Compacted topics can't be sealed, and nothing else is wrong."""
    settings = of_service(tmp_path, realm="test")
    settings.keys.path.unlink()
    found = (await look(settings))[1]
    assert (found.level, "no key-hiding key was made" in found.what) == (Level.WARNING, True)


async def test_a_key_hiding_key_that_the_service_keeps(tmp_path):
    settings = of_service(tmp_path)
    calls = KeyCalls(Service(), 5, Metrics())
    wrapped = await wrap_new_hiding_key(calls, "default", "test")
    settings.keys.path.unlink()
    create_key_file(settings.keys.path, KeyFile(realm="test", keys=(), key_hiding_key=wrapped))
    assert (await look(settings))[1].what == "the key-hiding key of realm test unwraps"
    BROKEN.add("wrong")
    found = (await look(settings))[1]
    assert (found.level, "is not the key-hiding key" in found.what) == (Level.FAILURE, True)
    assert "never make a new one" in found.remedy
