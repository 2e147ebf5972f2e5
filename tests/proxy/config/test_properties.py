"""Whatever is thrown at the configuration, it loads or says why not; and values survive their text."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kveil.proxy.config import ConfigError, HostPort, Settings, Skip, load
from kveil.proxy.config.layers import Override, environment, lay_over
from kveil.proxy.config.schema import config_keys

NAMES = sorted({part for key in config_keys() for part in key.path.replace("[]", "").split(".")})
TOP = sorted(Settings.model_fields)
WORDS = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(
        ["none", "batch", "auto", "record", "a:1", "0.0.0.0:1", "127.0.0.1:5000", "orders/1/2-3", "{}", "["]
    ),
    st.text(max_size=12),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-10, 10**12), st.floats(allow_nan=False), WORDS)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(WORDS | st.integers(-2, 300), inner, max_size=4)
    ),
    max_leaves=20,
)
CONFIGS = st.dictionaries(st.sampled_from(TOP) | WORDS, TREES, max_size=6)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(path: Path | None, environ: dict[str, str]) -> Settings | ConfigError:
    """The settings, or the one error that is allowed; any other exception fails the test."""
    try:
        return load(path, environ)
    except ConfigError as error:
        return error


@QUICK
@given(tree=CONFIGS)
def test_any_file_loads_or_says_why_not(tmp_path, tree):
    path = tmp_path / "any.yaml"
    path.write_text(json.dumps(tree))  # JSON is YAML, nearly
    found = outcome(path, {})
    if isinstance(found, ConfigError):
        assert found.problems
        assert all(problem.text.strip() for problem in found.problems)
        assert all(problem.path.strip() for problem in found.problems if problem.path)


@QUICK
@given(data=st.binary(max_size=200))
def test_any_bytes_load_or_say_why_not(tmp_path, data):
    path = tmp_path / "any.yaml"
    path.write_bytes(data)
    outcome(path, {})


VARIABLES = st.one_of(
    st.sampled_from([key.variable for key in config_keys()]),
    st.lists(st.sampled_from([name.upper() for name in NAMES] + ["0", "1", "99999999999"]), min_size=1, max_size=5).map(
        lambda parts: "KVEIL_" + "__".join(parts)
    ),
    st.from_regex(r"KVEIL_[A-Z0-9_]{0,20}", fullmatch=True),
)


@QUICK
@given(environ=st.dictionaries(VARIABLES, WORDS | TREES.map(json.dumps), max_size=6))
def test_any_environment_loads_or_says_why_not(environ):
    found = outcome(None, {name: text.replace("\x00", "") for name, text in environ.items()})
    if isinstance(found, ConfigError):
        assert all(problem.text.strip() for problem in found.problems)


@QUICK
@given(
    secret=st.text("abcdefghijklmnopqrstuvwxyz", min_size=16, max_size=20), place=st.sampled_from(list(config_keys()))
)
def test_a_secret_in_a_wrong_place_is_not_repeated(secret, place):
    """Addresses, places of files and skipped ranges are repeated, since they are names; nothing else is."""
    named = {
        "upstream.bootstrap",
        "listeners[].address",
        "listeners[].sasl.users",
        "skip",
        "keys.path",
        "identity.path",
    }
    named |= {
        "admin.address",
        "keys.gcp.endpoint",
        "keys.vault.kubernetes.token",
        "keys.pkcs11.module",
        "keys.pkcs11.token",
        "identity.pkcs11.module",
        "identity.pkcs11.token",
    }
    if place.path in named or re.search(r"tls\.|\.ca$", place.path):
        return
    marked = f"§{secret}"
    found = outcome(None, {"KVEIL_UPSTREAM__BOOTSTRAP": "a:1", place.variable: marked})
    assert isinstance(found, ConfigError)
    assert secret not in str(found)


@given(
    host=st.from_regex(r"[a-z0-9][a-z0-9.-]{0,30}", fullmatch=True) | st.ip_addresses().map(str),
    port=st.integers(1, 65_535),
)
def test_an_address_survives_its_text(host, port):
    address = HostPort(host=host, port=port)
    assert HostPort.parse(str(address)) == address


@given(text=st.text(max_size=40))
def test_any_text_is_an_address_or_is_not(text):
    try:
        address = HostPort.parse(text)
    except ValueError:
        return
    assert 0 < address.port < 65_536
    assert HostPort.parse(str(address)) == address


@given(
    topic=st.from_regex(r"[A-Za-z0-9._-]{1,249}", fullmatch=True),
    partition=st.integers(0, 2**31 - 1),
    offsets=st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1)).map(sorted),
)
def test_skipped_offsets_survive_their_text(topic, partition, offsets):
    skip = Skip(topic=topic, partition=partition, first=offsets[0], last=offsets[1])
    assert Skip.parse(str(skip)) == skip


@given(path=st.lists(st.sampled_from(["upstream", "tls", "listeners", "topics", 0, 1, "x"]), min_size=1, max_size=4))
def test_what_is_laid_over_is_there_or_refused(path):
    tree: dict[str, object] = {}
    override = Override(path=tuple(path), value="value", origin="test")
    if lay_over(tree, override) is not None:
        return
    node: object = tree
    for step in path:
        node = node[step]  # type: ignore[index]
    assert node == "value"


@pytest.mark.parametrize("name", [key.variable for key in config_keys()])
def test_a_variable_and_its_key_name_each_other(name):
    (override,) = environment({name: "x"})
    assert isinstance(override, Override)
    dotted = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in override.path).lstrip(".")
    assert dotted.replace("[0]", "[]") in {key.path for key in config_keys()}
