"""docs/configuration.md has every key, with its default and its variable, and none that there isn't."""

import re
from enum import Enum
from pathlib import Path

import pytest
import yaml

from kveil.proxy.config import ConfigError, load
from kveil.proxy.config.paths import SYSTEM_IDENTITY_PATH, SYSTEM_KEY_PATH
from kveil.proxy.config.schema import ConfigKey, config_keys
from tests.support.certificates import CertificateAuthority

DOCS = Path(__file__).parents[3] / "docs" / "configuration.md"
ROW = re.compile(r"^\| `([^`]+)` \| (required|`[^`]*`) \| (.+) \| `(KVEIL_[A-Z0-9_]+)` \|$", re.MULTILINE)
KEYS = list(config_keys())


def rows() -> dict[str, tuple[str, str, str]]:
    return {
        path: (default.strip("`"), meaning, variable)
        for path, default, meaning, variable in ROW.findall(DOCS.read_text())
    }


def shown(key: ConfigKey) -> str:
    if key.required:
        return "required"
    value = key.default
    if key.path == "keys.path":
        return str(SYSTEM_KEY_PATH)
    if key.path == "identity.path":
        return str(SYSTEM_IDENTITY_PATH)
    if key.path == "upstream.sasl":
        return "passthrough"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple) and value:
        return ", ".join(map(str, value))
    literal = {"None": "null", "True": "true", "False": "false", "()": "[]"}
    return literal.get(repr(value), str(value))


def test_the_keys_are_the_documented_ones_in_their_order():
    assert list(rows()) == [key.path for key in KEYS]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.path)
def test_a_key_is_documented(key):
    default, meaning, variable = rows()[key.path]
    assert default == shown(key)
    assert variable == key.variable
    assert len(meaning) >= 8


def test_the_list_of_keys_is_not_empty():
    paths = {key.path for key in KEYS}
    assert {"upstream.bootstrap", "topics[].sealed_as.topic", "limits.frame_bytes", "upstream.tls"} <= paths
    assert len(KEYS) >= 35


# A value for each key that a variable can set by itself.
SAMPLES = {"KVEIL_UPSTREAM__TLS": "{}", "KVEIL_UPSTREAM__SASL": "passthrough", "KVEIL_TRACING": "{}"}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.variable)
def test_a_documented_variable_is_known(key):
    """Whatever may be wrong with the value, it isn't the name."""
    found = ""
    try:
        load(None, {"KVEIL_UPSTREAM__BOOTSTRAP": "a:1", key.variable: SAMPLES.get(key.variable, "x")})
    except ConfigError as error:
        found = str(error)
    assert "no such key" not in found


def test_the_example_can_be_used(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    path = tmp_path / "kveil.yaml"
    path.write_text(example)
    settings = load(path, {})
    assert [rule.match for rule in settings.topics] == [rule["match"] for rule in yaml.safe_load(example)["topics"]]


def test_the_example_of_variables_can_be_used():
    (block,) = re.findall(r"```\n(KVEIL_.*?)```", DOCS.read_text(), re.DOTALL)
    environ = dict(line.split("=", 1) for line in block.splitlines())
    settings = load(None, environ)
    assert len(settings.upstream.bootstrap) == 2
    assert settings.upstream.tls is not None
    assert settings.listeners[0].direction == "produce"


def test_the_example_of_a_gateway_can_be_used(tmp_path):
    (example,) = re.findall(r"```\n(networks:\n.*?)```", DOCS.read_text(), re.DOTALL)
    made = CertificateAuthority(tmp_path).issue("kveil")
    for name, file in (("tls.crt", made.chain), ("tls.key", made.key)):
        example = example.replace(f"/etc/kveil/{name}", str(file))
    path = tmp_path / "kveil.yaml"
    path.write_text(f"upstream: {{bootstrap: a:1}}\n{example}")
    settings = load(path, {})
    assert [one.authenticates for one in settings.listeners] == [False, True]
    assert settings.topics[0].consumers == ("audit", "CN=reports,O=Example")
