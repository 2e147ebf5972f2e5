"""`kveil keys shred`: how a record key is named, and what an operator is told to destroy. The rest needs a cluster."""

import pytest
import yaml

from kveil.proxy.cli.destruction import destroy_command
from kveil.proxy.config import Keys
from kveil.proxy.config.key_services import Gcp, Vault
from kveil.proxy.net import erasure
from kveil.proxy.policy import KeyRef
from tests.support.key_log import KeyTopic

RULE = {"match": "people", "mode": "record", "key": "eu", "key_per": "record_key"}


@pytest.fixture
def config(tmp_path, kveil):
    """A configuration with record keys."""
    assert kveil("keys", "init", "--keys", tmp_path / "keys.json", "--key", "default", "--key", "eu").exit_code == 0
    path = tmp_path / "kveil.yaml"
    keys = {"path": str(tmp_path / "keys.json")}
    path.write_text(yaml.safe_dump({"upstream": {"bootstrap": "127.0.0.1:1"}, "keys": keys, "topics": [RULE]}))
    return path


@pytest.fixture
def shredded(monkeypatch):
    """The record keys that were to be erased."""
    found = []

    async def note(shared, keys, topic, record_key):
        found.append((topic, record_key))
        return 1

    class Followed:
        def __init__(self, shared):
            self.keys = shared.record_keys
            KeyTopic().followed_by(self.keys)

        async def __aenter__(self):
            return self.keys

        async def __aexit__(self, *error):
            pass

    monkeypatch.setattr(erasure, "shred", note)
    monkeypatch.setattr(erasure, "followed_keys", Followed)
    return found


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["4711"], b"4711"),
        (["Jürgen"], "Jürgen".encode()),
        (["00ff", "--hex"], b"\x00\xff"),
        (["AP8=", "--base64"], b"\x00\xff"),
        ([""], b""),
    ],
)
def test_how_a_record_key_is_named(kveil, config, shredded, arguments, expected):
    result = kveil("keys", "shred", "people", *arguments, "-c", config)
    assert result.exit_code == 0, result.stderr
    assert shredded == [("people", expected)]
    assert "NOT finished" in result.stdout


def test_a_record_key_in_a_file(kveil, config, shredded, tmp_path):
    (tmp_path / "key").write_bytes(b"\x00line\n")
    assert kveil("keys", "shred", "people", "--file", tmp_path / "key", "-c", config).exit_code == 0
    assert shredded == [("people", b"\x00line\n")]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["people"],
        ["people", "x", "--finish"],
        ["people", "--finish"],
        ["people", "xyz", "--hex"],
        ["people", "*", "--base64"],
        ["people", "00", "--hex", "--base64"],
        ["people", "x", "--file", "nowhere"],
        ["people", "--file", "nowhere"],
    ],
)
def test_wrong_use(kveil, config, shredded, arguments):
    result = kveil("keys", "shred", *arguments, "-c", config)
    assert result.exit_code == 2
    assert result.stderr.startswith("kveil: ")
    assert shredded == []


def test_nothing_waits(kveil, config, shredded):
    result = kveil("keys", "shred", "--finish", "-c", config)
    assert result.exit_code == 0
    assert "Nothing waits" in result.stdout


def test_without_such_a_rule(kveil, config):
    settings = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**settings, "topics": []}))
    result = kveil("keys", "shred", "people", "x", "-c", config)
    assert result.exit_code == 1
    assert "key_per: record_key" in result.stderr


@pytest.mark.parametrize(
    ("provider", "versions", "words"),
    [
        (2, ["1", "2"], ["transit-2/keys/eu/config min_decryption_version=3", "eu/trim min_available_version=3"]),
        (3, ["x"], ["schedule-key-deletion"]),
        (4, ["1", "2"], ["destroy 1 --key projects/p/keyRings/r/cryptoKeys/eu", "destroy 2 --key"]),
        (5, ["x"], ["keyvault key purge", "--name eu"]),
        (6, ["01"], ["--delete-object", "--label eu --id 01"]),
        (128, ["7"], ["version 7 of key eu"]),
    ],
)  # fmt: skip
def test_what_destroys_a_services_key(provider, versions, words):
    keys = Keys(
        vault=Vault.model_construct(mount="transit-2"), gcp=Gcp.model_construct(key_ring="projects/p/keyRings/r")
    )
    said = destroy_command(keys, KeyRef(provider, "eu"), versions)
    for word in words:
        assert word in said
