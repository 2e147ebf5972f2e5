"""What a process tells of itself beside its counters."""

import asyncio
from types import SimpleNamespace

import pytest
from cryptography import x509

from kveil.proxy.admin.catalogue import family_of
from kveil.proxy.admin.exposition import exposition
from kveil.proxy.admin.survey import Survey
from tests.support.certificates import CertificateAuthority
from tests.support.conversation import Clock, make_shared
from tests.support.producing import PRODUCE
from tests.support.records import client_batch, produced


def test_keys_and_requests(converse):
    talk = converse(topics=[{"match": "*", "mode": "batch"}])
    talk.client(PRODUCE, 9, produced({"t": {0: client_batch(1)}, "u": {0: client_batch(1)}}))
    talk.clock.now += 42
    served = [SimpleNamespace(connection=talk.connection, in_flight=talk.session.in_flight)]
    samples = Survey(talk.shared, None, served).samples()
    assert samples["kveil_requests_in_flight"] == 1
    assert samples["kveil_epoch_key_age_seconds"] == pytest.approx(42)
    assert samples['kveil_cache_entries{cache="epoch_keys"}'] == 2
    assert samples['kveil_cache_entries{cache="opened_keys"}'] == 2  # what it sealed it can open
    assert samples['kveil_cache_entries{cache="topic_settings"}'] == 2
    assert samples['kveil_cache_entries{cache="refused_keys"}'] == 0
    assert samples["kveil_cpu_seconds_total"] > 0
    assert all(family_of(name) for name in samples)
    assert exposition(samples)


def test_keys_that_seal_no_more(converse):
    """Of a topic that nobody produces to any longer."""
    talk = converse(topics=[{"match": "*", "mode": "batch"}])
    talk.client(PRODUCE, 9, produced({"t": {0: client_batch(1)}}))
    talk.clock.now += 25 * 3600
    samples = Survey(talk.shared, None, ()).samples()
    assert samples['kveil_cache_entries{cache="epoch_keys"}'] == samples["kveil_epoch_key_age_seconds"] == 0


def test_certificates_of_its_own(tmp_path):
    authority = CertificateAuthority(tmp_path / "ca")
    made = authority.issue("kveil")
    files = {"cert": str(made.chain), "key": str(made.key)}
    shared = make_shared(
        tmp_path,
        to_cluster={"tls": files},
        listeners=[{"address": "127.0.0.1:5000"}, {"address": "127.0.0.1:6000", "name": "gate", "tls": files}],
    )
    samples = Survey(shared, None, ()).samples()
    (loaded,) = x509.load_pem_x509_certificates(made.chain.read_bytes())
    expiries = {name: value for name, value in samples.items() if "certificate=" in name}
    assert expiries == {
        f'kveil_certificate_expiry_timestamp_seconds{{certificate="{name}"}}': loaded.not_valid_after_utc.timestamp()
        for name in ("upstream", "gate")
    }


def test_a_token(tmp_path):
    clock = Clock()
    shared = make_shared(tmp_path, clock=clock)
    token = SimpleNamespace(token_expires_at=clock.now + 300)
    name = "kveil_token_expiry_timestamp_seconds"
    assert Survey(shared, token, ()).samples()[name] == clock.now + 300  # both clocks are one here
    token.token_expires_at = None
    assert name not in Survey(shared, token, ()).samples()


async def test_it_watches_the_event_loop(tmp_path):
    survey = Survey(make_shared(tmp_path), None, ())
    survey.start()
    await asyncio.sleep(0)
    survey.stop()
    assert survey.samples()["kveil_event_loop_lag_seconds"] == 0
