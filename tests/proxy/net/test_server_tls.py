"""Certificates that change while the proxy runs, and the names of clients'."""

import shutil
import ssl

import pytest

from kveil.proxy.config.listeners import ListenerTls
from kveil.proxy.net import server_tls
from kveil.proxy.net.server_tls import ServerTls, rfc2253
from tests.support.certificates import CertificateAuthority


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ((), ""),
        (((("commonName", "alice"),),), "CN=alice"),
        (
            (
                (("countryName", "DE"),),
                (("organizationName", "Example"),),
                (("organizationalUnitName", "a"),),
                (("organizationalUnitName", "b"),),
                (("commonName", "alice"),),
            ),
            "CN=alice,OU=b,OU=a,O=Example,C=DE",
        ),
        (((("commonName", "a"), ("userId", "7")), (("domainComponent", "net"),)), "DC=net,CN=a+UID=7"),
        (((("commonName", 'a,b+c"d\\e<f>g;h=i'),),), 'CN=a\\,b\\+c\\"d\\\\e\\<f\\>g\\;h=i'),
        (((("commonName", "#x"),),), "CN=\\#x"),
        (((("commonName", " x "),),), "CN=\\ x\\ "),
        (((("commonName", " "),),), "CN=\\ "),
        (((("emailAddress", "a@example.net"),),), "emailAddress=a@example.net"),
        (((("localityName", "K"),), (("stateOrProvinceName", "N"),), (("streetAddress", "S"),)), "STREET=S,ST=N,L=K"),
    ],
)
def test_a_subject_as_kafka_writes_it(subject, expected):
    assert rfc2253(subject) == expected


def test_no_subject_can_pass_for_another():
    assert rfc2253(((("commonName", "a,O=b"),),)) != rfc2253(((("organizationName", "b"),), (("commonName", "a"),)))


@pytest.fixture
def authority(tmp_path):
    return CertificateAuthority(tmp_path)


@pytest.fixture
def told(monkeypatch):
    found = []

    class Log:
        def error(self, event, **values):
            found.append(event)

        info = error

        def bind(self, **_):
            return self

    monkeypatch.setattr(server_tls, "_log", Log())
    return found


@pytest.fixture
def own(authority, tmp_path):
    return authority.issue("kveil")


@pytest.fixture
def tls(authority, own, told):
    return ServerTls(ListenerTls(cert=own.chain, key=own.key, client_ca=authority.path), "here")


def test_unchanged_files_are_not_loaded_again(tls, told):
    assert tls.context() is tls.context()
    assert told == []


@pytest.mark.parametrize("which", ["chain", "key", "client_ca"])
def test_a_changed_file_is(tls, told, own, authority, which):
    before = tls.context()
    path = authority.path if which == "client_ca" else getattr(own, which)
    beside = path.with_suffix(".copy")
    shutil.copy(path, beside)
    beside.replace(path)
    assert tls.context() is not before
    assert told == ["certificate_reloaded"]


def test_a_broken_one_keeps_the_old_and_is_told_once(tls, told, own, authority):
    before = tls.context()
    good = own.key.read_bytes()
    own.key.write_bytes(authority.issue("other").key.read_bytes())  # half of a change: the certificate comes next
    assert tls.context() is tls.context() is before
    own.key.unlink()
    assert tls.context() is before
    assert told == ["certificate_reload_refused"] * 2
    own.key.write_bytes(good)
    assert tls.context() is not before
    assert told[2:] == ["certificate_reloaded"]


def test_sighup_loads_them_in_any_case(tls, told):
    before = tls.context()
    tls.reload()
    assert tls.context() is not before


def test_clients_must_show_a_certificate_and_no_session_is_resumed(tls):
    context = tls.context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
