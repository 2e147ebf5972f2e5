"""What is read off the models: which keys there are, what holds a list, which key is near."""

import pytest
from pydantic import BaseModel

from kveil.proxy.config.listeners import Listener
from kveil.proxy.config.models import Settings
from kveil.proxy.config.problems import dotted, unknown_key
from kveil.proxy.config.schema import config_keys, is_list, model_at, model_of
from kveil.proxy.config.topic_rules import TopicRule
from kveil.proxy.config.upstream import UpstreamTls


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ((), Settings),
        (("upstream", "tls"), UpstreamTls),
        (("listeners",), Listener),
        (("listeners", 0), Listener),
        (("topics", 3), TopicRule),
        (("topics", 3, "match"), None),
        (("nowhere",), None),
        (("nowhere", "deeper"), None),
    ],
)
def test_which_model_stands_below_a_path(path, model):
    assert model_at(path) is model


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("listeners",), True),
        (("topics",), True),
        (("topics", 0, "accept_keys"), True),
        (("upstream", "bootstrap"), True),
        (("skip",), True),
        (("nodes",), False),
        (("upstream",), False),
        (("upstream", "tls"), False),
        (("topics", 0), False),
        (("nowhere",), False),
        (("nowhere", "x"), False),
    ],
)
def test_which_keys_hold_lists(path, expected):
    assert is_list(path) is expected


class Inner(BaseModel):
    """A model to be found."""


@pytest.mark.parametrize("annotation", [Inner, Inner | None, tuple[Inner, ...], dict[str, Inner], list[Inner | None]])
def test_a_model_is_found_inside_of_its_annotation(annotation):
    assert model_of(annotation) is Inner


@pytest.mark.parametrize("annotation", [int, int | None, tuple[int, ...], dict[str, int], None])
def test_where_there_is_no_model(annotation):
    assert model_of(annotation) is None


def test_no_two_keys_share_a_path_or_a_variable():
    keys = list(config_keys())
    assert len({key.path for key in keys}) == len({key.variable for key in keys}) == len(keys)


def test_a_part_that_may_be_null_is_a_key_itself():
    paths = [key.path for key in config_keys()]
    assert paths.index("upstream.tls") < paths.index("upstream.tls.ca")
    assert "upstream" not in paths
    assert "listeners" not in paths


def test_only_what_has_no_default_is_required():
    assert [key.path for key in config_keys() if key.required] == [
        "upstream.bootstrap",
        "upstream.sasl.mechanism",
        "upstream.own_sasl.mechanism",
        "listeners[].tls.cert",
        "listeners[].sasl.users",
        "keys.vault.address",
        "keys.vault.approle.role_id",
        "keys.vault.approle.secret_id",
        "keys.vault.kubernetes.role",
        "keys.gcp.key_ring",
        "keys.azure.address",
        "keys.pkcs11.module",
        "keys.pkcs11.token",
        "keys.pkcs11.pin",
        "identity.pkcs11.module",
        "identity.pkcs11.token",
        "identity.pkcs11.pin",
        "identity.pkcs11.key",
        "topics[].match",
        "topics[].sealed_as.topic",
        "audit.file.path",
    ]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("topics",), "topics"),
        (("topics", 1, "mode"), "topics[1].mode"),
        (("a", 0, 1, "b"), "a[0][1].b"),
        (("nodes", 100), "nodes[100]"),
    ],
)
def test_a_path_as_text(path, text):
    assert dotted(path) == text


def test_limits_have_units_in_their_names():
    names = [key.path.removeprefix("limits.") for key in config_keys() if key.path.startswith("limits.")]
    units = ("_bytes", "_seconds", "_hours")
    counts = {"max_connections", "opened_keys", "record_keys"}
    assert [name for name in names if not name.endswith(units) and name not in counts] == []


def test_an_unknown_key_with_no_near_one_lists_all():
    assert unknown_key(("log", "zzz")) == "there is no such key; known here: format, level"
