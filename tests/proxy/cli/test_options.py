"""From flags to what they lay over the settings."""

from pathlib import Path

import pytest

from kveil.proxy.cli.options import Flags, _overrides


def laid(**flags: object) -> list[tuple[tuple[str | int, ...], object, str]]:
    return [(one.path, one.value, one.origin) for one in _overrides(Flags(**flags), [], "--listen")]  # type: ignore[arg-type]


def test_flags_that_were_not_given_lay_nothing_over():
    assert laid() == []


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"upstream": "a:1,b:2"}, (("upstream", "bootstrap"), "a:1,b:2", "--upstream")),
        ({"keys": Path("/k")}, (("keys", "path"), Path("/k"), "--keys")),
        ({"tls_ca": Path("/ca")}, (("upstream", "tls", "ca"), Path("/ca"), "--tls-ca")),
        ({"lazy_keys": True}, (("keys", "lazy"), True, "--lazy-keys")),
        ({"workers": 2}, (("workers",), 2, "--workers")),
        ({"log_level": "debug"}, (("log", "level"), "debug", "--log-level")),
        ({"log_format": "json"}, (("log", "format"), "json", "--log-format")),
        ({"tls": True}, (("upstream", "tls"), {}, "--tls")),
        ({"tls": False}, (("upstream", "tls"), None, "--tls")),
    ],
)
def test_a_flag_lays_its_value_over_its_key(flags, expected):
    assert laid(**flags) == [expected]


def test_tls_comes_before_what_is_inside_of_it():
    paths = [path for path, _, _ in laid(tls=True, tls_ca=Path("/ca"))]
    assert paths == [("upstream", "tls"), ("upstream", "tls", "ca")]


def test_listeners_replace_the_whole_list():
    (override,) = _overrides(Flags(), [{"address": "a:1"}, {"address": "b:1"}], "--listen")
    assert override.path == ("listeners",)
    assert override.value == [{"address": "a:1"}, {"address": "b:1"}]
    assert override.only_if_null is False
