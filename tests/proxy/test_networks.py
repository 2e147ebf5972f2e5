"""Which addresses a listener lets in, and what it says of that."""

import pytest

from kveil.proxy.config import load
from kveil.proxy.networks import AllowedAddresses


def allowed(allow: str = "null", networks: str = "{}") -> AllowedAddresses:
    environ = {
        "KVEIL_UPSTREAM__BOOTSTRAP": "a:1",
        "KVEIL_NETWORKS": networks,
        "KVEIL_LISTENERS": f"[{{allow: {allow}}}]",
    }
    settings = load(None, environ)
    return AllowedAddresses(settings, settings.listeners[0])


OFFICE = "{office: [10.1.0.0/16, 'fd00:1::/32'], home: '192.0.2.0/28,192.0.2.77'}"


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("10.1.255.255", "allow office: 10.1.0.0/16"),
        ("10.2.0.0", None),
        ("10.0.255.255", None),
        ("fd00:1:2::3", "allow office: fd00:1::/32"),
        ("fd00:2::", None),
        ("192.0.2.77", "allow home: 192.0.2.77"),
        ("192.0.2.16", None),
        ("127.0.0.1", "allow 127.0.0.1"),
        ("127.0.0.2", None),
        ("::1", None),
        ("fe80::1%eth0", "allow fe80::/64"),
        ("::ffff:10.1.2.3", "allow office: 10.1.0.0/16"),
        ("::ffff:10.2.2.3", None),
    ],
)
def test_a_list(host, words):
    assert allowed("[office, 127.0.0.1, home, 'fe80::/64']", OFFICE).admitted_by(host) == words


@pytest.mark.parametrize("host", ["10.1.2.3", "::1", "fe80::1%lo"])
def test_without_a_list_everybody(host):
    assert allowed().admitted_by(host) == "no allow-list"


@pytest.mark.parametrize("allow", ["null", "[10.0.0.0/8]"])
def test_what_is_no_address(allow):
    with pytest.raises(ValueError, match="does not appear to be"):
        allowed(allow).admitted_by("10.1.2")


def test_the_whole_internet_by_name():
    assert allowed("[0.0.0.0/0]").admitted_by("198.51.100.7")
    assert allowed("[0.0.0.0/0]").admitted_by("2001:db8::1") is None
