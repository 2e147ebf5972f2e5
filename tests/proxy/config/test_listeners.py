"""What listeners need together: protection beyond loopback, places of their own, certificates that load."""

import json

import pytest

from kveil.proxy.config import ConfigError, load
from tests.support.certificates import CertificateAuthority


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def tls(authority):
    own = authority.issue("kveil")
    return {"cert": str(own.chain), "key": str(own.key)}


def settings(*listeners, **more):
    variables = {f"KVEIL_{name}": json.dumps(value) for name, value in more.items()}
    return load(None, {"KVEIL_UPSTREAM__BOOTSTRAP": "a:1", "KVEIL_LISTENERS": json.dumps(listeners), **variables})


def problems(*listeners, **more):
    with pytest.raises(ConfigError) as caught:
        settings(*listeners, **more)
    return {problem.path: problem.text for problem in caught.value.problems}


SASL = {"users": "/users.json"}


class TestBeyondLoopback:
    @pytest.mark.parametrize("address", ["10.0.0.1:5000", "[fd00::1]:5000", "kveil.example.net:5000"])
    def test_with_tls_and_clients_that_are_known(self, authority, tls, address):
        for more in ({"tls": tls, "sasl": SASL}, {"tls": {**tls, "client_ca": str(authority.path)}}):
            (listener,) = settings({"address": address, **more}).listeners
            assert listener.authenticates

    @pytest.mark.parametrize("kind", ["nothing", "tls alone", "sasl alone"])
    def test_never_with_less(self, tls, kind):
        more = {"nothing": {}, "tls alone": {"tls": tls}, "sasl alone": {"sasl": SASL}}[kind]
        ((path, text),) = problems({"address": "10.0.0.1:5000", **more}).items()
        assert path == "listeners[0].address"
        assert "needs TLS and client authentication" in text
        assert "127.0.0.1" in text

    def test_every_address_needs_a_name(self, tls):
        exposed = {"address": "0.0.0.0:5000", "tls": tls, "sasl": SASL}
        assert list(problems(exposed)) == ["listeners[0].advertised"]
        assert settings({**exposed, "advertised": "kveil"}).listeners[0].advertised_host == "kveil"

    def test_on_loopback_anything_goes(self, tls):
        for more in ({}, {"tls": tls}, {"sasl": SASL}):
            assert settings({"address": "localhost:5000", **more})


class TestPlaces:
    def test_every_address_takes_the_port_of_each(self, tls):
        exposed = {"address": "0.0.0.0:5000", "tls": tls, "sasl": SASL, "advertised": "kveil"}
        found = problems(exposed, {"address": "127.0.0.1:5100"})
        assert "belongs to listeners[0].address" in found["listeners[1].address"]
        assert settings(exposed, {"address": "[::1]:5000"})

    def test_an_address_for_each_broker_leaves_the_ports(self):
        one = {"address": "127.0.0.1:5000", "addressing": "loopback"}
        assert settings(one, {"address": "127.0.0.1:5001", "addressing": "loopback"})
        assert settings(one, {"address": "127.0.1.1:5000", "addressing": "loopback"})
        assert settings({"address": "127.0.0.1:65535", "addressing": "loopback"})
        assert "listeners[1].address" in problems(one, {"address": "127.0.0.101:5000", "addressing": "loopback"})
        assert settings(one, {"address": "127.0.0.102:5000", "addressing": "loopback"})

    def test_beyond_linux_there_are_no_such_addresses(self, monkeypatch):
        monkeypatch.setattr("sys.platform", "darwin")
        assert "for Linux alone" in problems({"addressing": "loopback"})["listeners[0].addressing"]


class TestCertificates:
    def test_a_key_of_another(self, authority, tls):
        other = authority.issue("other")
        found = problems({"tls": {**tls, "key": str(other.key)}})
        assert "certificate and key don't load" in found["listeners[0].tls.cert"]

    def test_an_authority_that_is_none(self, tls, tmp_path):
        (tmp_path / "junk").write_text("junk")
        found = problems({"tls": {**tls, "client_ca": str(tmp_path / "junk")}})
        assert "no usable PEM certificate" in found["listeners[0].tls.client_ca"]

    def test_a_file_that_is_not_there(self, tls):
        assert "No such file" in problems({"tls": {**tls, "cert": "/nope.crt"}})["listeners[0].tls.cert"]


class TestRulesThatNamePrincipals:
    RULES = ({"match": "a", "producers": ["alice"]},)

    def test_need_a_listener_that_knows_its_clients(self, authority, tls):
        assert settings({"sasl": SASL}, TOPICS=self.RULES)
        assert settings({"tls": {**tls, "client_ca": str(authority.path)}}, TOPICS=self.RULES)
        assert settings({}, {"address": "127.0.0.1:6000", "sasl": SASL}, TOPICS=self.RULES)
        assert "would refuse everybody" in problems({"tls": tls}, TOPICS=self.RULES)["topics[0].producers"]

    def test_hold_for_plain_topics_too(self):
        (rule,) = settings({"sasl": SASL}, TOPICS=[{"match": "a", "seal": "none", "consumers": []}]).topics
        assert rule.consumers == ()

    def test_a_subject_is_not_taken_apart(self):
        (rule,) = settings({"sasl": SASL}, TOPICS=[{"match": "a", "producers": ["CN=a,OU=b"]}]).topics
        assert rule.producers == ("CN=a,OU=b",)


def test_an_allow_list_may_be_written_with_commas():
    found = settings({"allow": "10.0.0.0/8,office"}, NETWORKS={"office": "192.0.2.1, 192.0.2.2"})
    assert found.listeners[0].allow == ("10.0.0.0/8", "office")
    assert found.networks == {"office": ("192.0.2.1", "192.0.2.2")}


def test_every_problem_of_a_listener_is_told_with_those_of_others(tls):
    found = problems({"address": "10.0.0.1:1"}, {"allow": ["10.1.2"]}, {"direction": "up"})
    assert set(found) == {"listeners[0].address", "listeners[1].allow[0]", "listeners[2].direction"}
