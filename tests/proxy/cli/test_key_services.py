"""`kveil keys` where a key service keeps the keys: what is made, shown, and left to the service's own tools."""

import json
from pathlib import Path

import pytest
import yaml

from kveil.proxy.keys.keyfile import WrappedHidingKey, destroy_key
from kveil.proxy.keys.keyfile_store import change_key_file, read_key_file
from tests.support.key_services.own import OWN_PROVIDER

SERVICES = {
    "vault": ({"address": "https://vault:8200", "mount": "kv", "token": "env:T"}, "bao write -f kv/keys/orders/rotate"),
    "aws": ({}, "aws kms rotate-key-on-demand"),
    "gcp": (
        {"key_ring": "projects/p/locations/l/keyRings/r"},
        "gcloud kms keys versions create --primary --key orders",
    ),
    "azure": ({"address": "https://hsm"}, "az keyvault key rotate --id https://hsm/keys/orders"),
}


@pytest.fixture
def service(kveil, tmp_path) -> Path:
    path = tmp_path / "service.json"
    assert kveil("keys", "init", "--keys", path, "--key", "default", "--key", "eu").exit_code == 0
    return path


@pytest.fixture
def configure(tmp_path, service):
    """Write a configuration whose keys are in the service."""

    def write(*, topics=(), default: str = "default", **more) -> Path:
        path = tmp_path / "kveil.yaml"
        keys = {"provider": OWN_PROVIDER, "path": str(tmp_path / "keys.json"), "options": {"path": str(service)}}
        path.write_text(yaml.safe_dump({"keys": {**keys, "default": default}, "topics": list(topics), **more}))
        return path

    return write


def test_init_makes_a_file_without_keys(kveil, configure, service, tmp_path):
    result = kveil("keys", "init", "-c", configure(realm="lab"))
    assert result.exit_code == 0, result.stderr
    content, _ = read_key_file(tmp_path / "keys.json")
    assert (content.realm, content.keys) == ("lab", ())
    assert isinstance(content.key_hiding_key, WrappedHidingKey)
    assert content.key_hiding_key.block.name == "default"
    assert "realm: lab" in result.stdout
    assert "wrapped by module:default" in result.stdout
    assert "secret" not in (tmp_path / "keys.json").read_text()


def test_init_takes_a_realm_and_the_key_that_wraps(kveil, configure, tmp_path):
    config = configure()
    assert kveil("keys", "init", "-c", config, "--realm", "lab", "--key", "eu").exit_code == 0
    content, _ = read_key_file(tmp_path / "keys.json")
    assert (content.realm, content.key_hiding_key.block.name) == ("lab", "eu")
    before = (tmp_path / "keys.json").read_bytes()
    assert "was left alone" in kveil("keys", "init", "-c", config).stderr
    assert (tmp_path / "keys.json").read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "flags", "reason"),
    [
        ({"realm": "lab"}, ["--realm", "other"], "--realm other: leave one of them out"),
        ({}, ["--key", "a", "--key", "b"], "name the one that is to wrap"),
        ({}, ["--key", "us"], "module:us can't be used: "),
        ({}, ["--key", "a b"], "must be a key's name"),
        ({"default": "k-{topic}"}, [], "is another key for each topic"),
        ({}, ["--realm", "a b"], "the realm must be"),
    ],
)
def test_init_refuses_what_can_not_be(kveil, configure, tmp_path, settings, flags, reason):
    result = kveil("keys", "init", "-c", configure(**settings), *flags)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert not (tmp_path / "keys.json").exists()


def test_a_realm_in_the_configuration_is_a_key_files_too(kveil, tmp_path):
    config = tmp_path / "kveil.yaml"
    config.write_text(f"realm: lab\nkeys: {{path: {tmp_path}/k.json}}\n")
    assert kveil("keys", "init", "-c", config).exit_code == 0
    assert read_key_file(tmp_path / "k.json")[0].realm == "lab"


def test_check_and_run_find_the_key_hiding_key(kveil, configure, service, served):
    config = configure(upstream={"bootstrap": "a:1"}, topics=[{"match": "*", "mode": "record"}], realm="lab")
    for command in ("check", "run"):
        result = kveil(command, "-c", config)
        assert result.exit_code == 2
        assert "topics[0].mode: no key-hiding key was made" in result.stderr
    assert kveil("keys", "init", "-c", config, "--key", "eu").exit_code == 0
    assert kveil("check", "-c", config).exit_code == 0
    assert kveil("run", "-c", config).exit_code == 0
    change_key_file(service, lambda content: destroy_key(content, "eu"))
    result = kveil("run", "-c", config)
    assert result.exit_code == 2
    assert "the key-hiding key can't be had: " in result.stderr
    assert kveil("run", "-c", config, "--lazy-keys").exit_code == 0
    assert [settings.keys.lazy for settings in served] == [False, True]


def test_a_file_of_another_service_is_told_at_start(kveil, configure, tmp_path):
    config = configure(upstream={"bootstrap": "a:1"})
    assert kveil("keys", "init", "-c", config).exit_code == 0
    config.write_text(yaml.safe_dump({"upstream": {"bootstrap": "a:1"}, "keys": {"path": str(tmp_path / "keys.json")}}))
    result = kveil("check", "-c", config)
    assert result.exit_code == 2
    assert "was wrapped by module:default, and neither keys nor a rule names that" in result.stderr


def test_list_shows_the_keys_that_rules_name(kveil, configure, service):
    assert kveil("keys", "rotate", "eu", "--keys", service).exit_code == 0
    topics = [{"match": "a", "key": "eu"}, {"match": "b", "key": "b-{topic}"}, {"match": "c", "key": "us"}]
    config = configure(realm="lab", topics=topics)
    result = kveil("keys", "list", "-c", config)
    assert result.exit_code == 1  # us
    place = f"of module at own service {service}"
    realm, default, eu_1, eu_2, us, template = result.stdout.splitlines()
    assert realm == "realm: lab"
    assert default == f"key default  version 1  seals  {place}"
    assert (eu_1, eu_2) == (f"key eu  version 1  opens only  {place}", f"key eu  version 2  seals  {place}")
    assert us.startswith(f"key us  {place}  CAN'T BE USED: ")
    assert template.startswith("key b-{topic}  is another for each topic")
    found = json.loads(kveil("keys", "list", "-c", config, "--json").stdout)
    assert found["keys"][1] == {
        "name": "eu",
        "provider": "module",
        "place": f"own service {service}",
        "primary": "2",
        "versions": [{"version": "1"}, {"version": "2"}],
    }
    assert "problem" in found["keys"][2]
    assert found["path"] is None


def test_list_shows_the_key_hiding_key(kveil, configure, tmp_path):
    config = configure()
    assert kveil("keys", "init", "-c", config).exit_code == 0
    identifier = read_key_file(tmp_path / "keys.json")[0].key_hiding_key.id.hex()
    assert f"key-hiding key  {identifier}" in kveil("keys", "list", "-c", config).stdout


@pytest.mark.parametrize("name", SERVICES)
def test_rotation_and_destruction_are_left_to_the_service(kveil, tmp_path, monkeypatch, name):
    monkeypatch.setenv("T", "a token")
    section, command = SERVICES[name]
    config = tmp_path / "kveil.yaml"
    config.write_text(yaml.safe_dump({"keys": {"provider": name, name: section, "seal_lease_seconds": 77}}))
    result = kveil("keys", "rotate", "orders", "-c", config)
    assert result.exit_code == 2
    assert command in result.stderr
    assert "keys.seal_lease_seconds (77)" in result.stderr
    assert "SIGHUP" in result.stderr
    result = kveil("keys", "destroy", "orders", "--yes", "-c", config)
    assert result.exit_code == 2
    assert "is destroyed there" in result.stderr
    assert "keys.unwrap_cache_seconds" in result.stderr
    assert f"is a key of {name}" in kveil("keys", "add", "orders", "-c", config).stderr


def test_keys_of_the_file_can_be_named_beside_a_service(kveil, configure, tmp_path):
    config = configure()
    assert kveil("keys", "init", "-c", config).exit_code == 0
    assert kveil("keys", "add", "keyfile:local", "-c", config).exit_code == 0
    assert kveil("keys", "rotate", "keyfile:local", "-c", config).exit_code == 0
    assert [(key.name, key.primary) for key in read_key_file(tmp_path / "keys.json")[0].keys] == [("local", "2")]
    assert "is rotated there" in kveil("keys", "rotate", "-c", config).stderr
    assert kveil("keys", "destroy", "keyfile:local", "--yes", "-c", config).exit_code == 0
    assert read_key_file(tmp_path / "keys.json")[0].keys == ()


@pytest.mark.parametrize("arguments", [["keys", "list", "--json"], ["check", "--json"]])
def test_what_a_machine_reads_is_json_alone_also_when_the_service_is_down(kveil, configure, service, arguments):
    """What is logged of its calls goes to standard error."""
    config = configure(upstream={"bootstrap": "a:1"}, realm="lab")
    service.unlink()
    result = kveil(*arguments, "-c", config)
    assert result.exit_code in {1, 2}
    found = json.loads(result.stdout)
    assert "is down" in json.dumps(found)
