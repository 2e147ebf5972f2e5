"""Certificates are loaded when the configuration is read, not at the first connection. Workers need a system for it."""

import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from kveil.proxy.config import ConfigError, UpstreamTls, load
from kveil.proxy.config.checks import client_context
from tests.support.certificates import Certificate, CertificateAuthority


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def certificate(authority) -> Certificate:
    return authority.issue("client")


@pytest.fixture(scope="module")
def locked_key(certificate, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("locked") / "client.key"
    command = ["openssl", "pkey", "-in", certificate.key, "-aes256", "-passout", "pass:hunter2", "-out", path]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return path


def load_tls(tmp_path: Path, **tls: object) -> UpstreamTls:
    path = tmp_path / "kveil.yaml"
    lines = "".join(f"    {name}: {value}\n" for name, value in tls.items())
    path.write_text(f"upstream:\n  bootstrap: [a:1]\n  tls:\n{lines}")
    loaded = load(path, {}).upstream.tls
    assert loaded is not None
    return loaded


def fault(tmp_path: Path, **tls: object) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load_tls(tmp_path, **tls)
    return {problem.path: problem.text for problem in caught.value.problems}


def test_a_context_always_checks_the_broker(tmp_path, certificate):
    context = client_context(load_tls(tmp_path, cert=certificate.chain, key=certificate.key))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname is True
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_the_least_version_can_be_raised(tmp_path):
    assert client_context(load_tls(tmp_path, min_version="'1.3'")).minimum_version is ssl.TLSVersion.TLSv1_3


def test_own_roots_replace_the_system_s(tmp_path, certificate):
    own = client_context(load_tls(tmp_path, ca=certificate.chain))
    assert len(own.get_ca_certs()) <= 2


def test_a_missing_file(tmp_path):
    ((path, text),) = fault(tmp_path, ca=tmp_path / "nope.pem").items()
    assert path == "upstream.tls.ca"
    assert "No such file" in text


def test_a_directory(tmp_path):
    assert "is not a file" in fault(tmp_path, ca=tmp_path)["upstream.tls.ca"]


def test_a_file_without_a_certificate(tmp_path):
    junk = tmp_path / "junk.pem"
    junk.write_text("nothing of use")
    assert "no usable PEM certificate" in fault(tmp_path, ca=junk)["upstream.tls.ca"]


def test_a_key_of_another_certificate(tmp_path, authority, certificate):
    other = authority.issue("other", file_name="other")
    text = fault(tmp_path, cert=certificate.chain, key=other.key)["upstream.tls.cert"]
    assert "a key that belongs to it" in text


def test_a_key_without_a_certificate(tmp_path, certificate):
    assert "upstream.tls.cert" in fault(tmp_path, key=certificate.key)["upstream.tls.key"]


def test_a_locked_key_opens_by_a_reference(tmp_path, certificate, locked_key):
    password = tmp_path / "password"
    password.write_text("hunter2\n")
    tls = load_tls(tmp_path, cert=certificate.chain, key=locked_key, key_password=f"file:{password}")
    assert client_context(tls)
    assert "hunter2" not in repr(tls)


def test_a_locked_key_without_its_password_asks_nobody(tmp_path, certificate, locked_key):
    assert "don't load" in fault(tmp_path, cert=certificate.chain, key=locked_key)["upstream.tls.cert"]


def test_a_wrong_password_is_not_shown(tmp_path, certificate, locked_key, monkeypatch):
    monkeypatch.setenv("PASSPHRASE", "swordfish")
    tls = {"cert": certificate.chain, "key": locked_key, "key_password": "env:PASSPHRASE"}
    found = fault(tmp_path, **tls)
    assert list(found) == ["upstream.tls.cert"]
    assert "swordfish" not in str(found)


def test_a_reference_that_leads_nowhere(tmp_path, certificate):
    found = fault(tmp_path, cert=certificate.chain, key=certificate.key, key_password="env:NOT_SET_HERE")
    assert "NOT_SET_HERE is not set" in found["upstream.tls.key_password"]


def test_workers_where_sockets_cannot_be_handed_over(monkeypatch):
    environ = {"KVEIL_UPSTREAM__BOOTSTRAP": "a:1", "KVEIL_WORKERS": "2"}
    assert load(None, environ).workers == 2
    monkeypatch.delattr(socket, "send_fds")
    with pytest.raises(ConfigError, match=r"workers: this system .* leave it at 1"):
        load(None, environ)
    assert load(None, {**environ, "KVEIL_WORKERS": "1"}).workers == 1
