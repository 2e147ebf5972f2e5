"""One fault of the configuration, told where it is, with the way out."""

from pathlib import Path

import pytest

from kveil.proxy.config import ConfigError, load, logins

UPSTREAM = "upstream: {bootstrap: [broker:9092]}\n"


@pytest.fixture
def problems(tmp_path: Path):
    """What is wrong with a text, by path."""

    def find(text: str, upstream: str = UPSTREAM) -> dict[str, str]:
        path = tmp_path / "kveil.yaml"
        path.write_text(upstream + text)
        with pytest.raises(ConfigError) as caught:
            load(path, {})
        return {problem.path: problem.text for problem in caught.value.problems}

    return find


@pytest.mark.parametrize(
    ("text", "path", "sentence"),
    [
        ("topics: [{match: a, mode: records}]", "topics[0].mode", "record"),
        ("topics: [{match: a, mode: recrd}]", "topics[0].mode", "must be one of auto, batch"),
        ("topics: [{match: a, seal: null}]", "topics[0].seal", "must be one of batch, none"),
        ("topics: [{match: a, seal: off}]", "topics[0].seal", "must be one of batch, none"),
        ("topics: [{match: 'a b'}]", "topics[0].match", "can match no topic"),
        ("topics: [{match: ''}]", "topics[0].match", "can match no topic"),
        ("topics: [{match: on}]", "topics[0].match", "must be text"),
        ("topics: [{mode: batch}]", "topics[0].match", "is missing"),
        ("topics: [{match: a, seal: none, mode: batch}]", "topics[0].mode", "no meaning with seal: none"),
        ("topics: [{match: a, seal: none, accept_plain: true}]", "topics[0].accept_plain", "no meaning"),
        ("topics: [{match: a, seal: none, accept_keys: [b]}]", "topics[0].accept_keys", "no meaning"),
        ("topics: [{match: a, seal: none, stub_codec: none}]", "topics[0].stub_codec", "no meaning"),
        ("topics: [{match: a, seal: none, sealed_as: {topic: b}}]", "topics[0].sealed_as", "no meaning"),
        ("topics: [{match: a, sealed_as: {topic: 'a/b'}}]", "topics[0].sealed_as.topic", "no topic can have"),
        ("topics: [{match: a, sealed_as: {}}]", "topics[0].sealed_as.topic", "is missing"),
        ("topics: [{match: a, key: ''}]", "topics[0].key", "1 to 128"),
        ("topics: [{match: a, accept_plain: perhaps}]", "topics[0].accept_plain", "true or false"),
        ("topics: [{match: a, seal: none, plain_before: {0: 1}}]", "topics[0].plain_before", "no meaning"),
        ("topics: [{match: a, accept_plain: true, plain_before: {0: 1}}]", "topics[0].plain_before", "no meaning"),
        ("topics: [{match: 'a*', plain_before: {0: 1}}]", "topics[0].plain_before", "must be that topic's name"),
        ("topics: [{match: a, plain_before: {0: -1}}]", "topics[0].plain_before[0]", "at least 0"),
        ("topics: [{match: a, plain_before: {-1: 0}}]", "topics[0].plain_before[-1]", "at least 0"),
        ("topics: [{match: a, plain_before: 1200}]", "topics[0].plain_before", "must be a map"),
        ("topics: [{match: a, plain_before: {0: 2026-11-22T10:00:00Z}}]", "topics[0].plain_before[0]", "whole number"),
        ("topics: {match: a}", "topics", "must be a list"),
        ("topics: [{match: a}, {match: a}]", "topics[1].match", "topics[0] matches first"),
        ("topics: [{match: '*'}, {match: a}]", "topics[1].match", "topics[0] matches first"),
        ("listeners: []", "listeners", "must not be empty"),
        ("listeners: [127.0.0.1:5000]", "listeners[0]", "must be a map"),
        ("listeners: [{address: 10.0.0.1:5000}]", "listeners[0].address", "needs TLS and client authentication"),
        ("listeners: [{address: broker:5000}]", "listeners[0].address", "loopback"),
        ("listeners: [{tls: {}}]", "listeners[0].tls.cert", "is missing"),
        ("listeners: [{sasl: {}}]", "listeners[0].sasl.users", "is missing"),
        ("listeners: [{sasl: {users: u, mechanisms: []}}]", "listeners[0].sasl.mechanisms", "must not be empty"),
        ("listeners: [{sasl: {users: u, mechanisms: [GSSAPI]}}]", "listeners[0].sasl.mechanisms[0]", "one of PLAIN"),
        ("listeners: [{address: '0.0.0.0:5000', sasl: {users: u}}]", "listeners[0].address", "TLS"),
        ("listeners: [{allow: []}]", "listeners[0].allow", "must not be empty"),
        ("listeners: [{allow: [10.1.2.3/8]}]", "listeners[0].allow[0]", "host bits set"),
        ("listeners: [{allow: [10.1.2]}]", "listeners[0].allow[0]", "no address and no network"),
        ("listeners: [{allow: ['a b']}]", "listeners[0].allow[0]", "1 to 128"),
        ("listeners: [{allow: [office]}]", "listeners[0].allow", "office, which is no group"),
        ("networks: {'10.1': [10.1.0.0/16]}", "networks.10.1", "reads like an address"),
        ("networks: {office: [lan]}", "networks.office[0]", "no address and no network"),
        ("networks: [10.1.0.0/16]", "networks", "must be a map"),
        ("listeners: [{addressing: names}]", "listeners[0].addressing", "ports, loopback"),
        ("listeners: [{address: '[::1]:1', addressing: loopback}]", "listeners[0].addressing", "127.0.0.0/8"),
        (
            "listeners: [{address: '127.255.255.200:1', addressing: loopback}]",
            "listeners[0].addressing",
            "127.255.255.254 is the last",
        ),
        (
            "listeners: [{addressing: loopback, advertised: kafka}]",
            "listeners[0].advertised",
            "no meaning with addressing",
        ),
        (
            "listeners: [{address: '127.0.0.1:1', addressing: loopback}, {address: '127.0.0.9:1'}]",
            "listeners[1].address",
            "belongs to listeners[0].address",
        ),
        ("topics: [{match: a, producers: alice}]", "topics[0].producers", "must be a list"),
        ("topics: [{match: a, consumers: ['']}]", "topics[0].consumers[0]", "characters that can be seen"),
        ("topics: [{match: a, producers: [alice]}]", "topics[0].producers", "no listener knows who its clients are"),
        ("topics: [{match: a, consumers: []}]", "topics[0].consumers", "no listener knows who its clients are"),
        ("listeners: [{advertised: 'a:1'}]", "listeners[0].advertised", "without a port"),
        ("listeners: [{address: 127.0.0.1:65500}]", "listeners[0].address", "65535 is the last"),
        (
            "listeners: [{address: 127.0.0.1:5000}, {address: 127.0.0.1:5050}]",
            "listeners[1].address",
            "belongs to listeners[0].address",
        ),
        (
            "listeners: [{address: 127.0.0.1:5000}, {address: localhost:5050}]",
            "listeners[1].address",
            "belongs to listeners[0].address",
        ),
        ("nodes: {99: 7000}", "nodes[99]", "have their port already"),
        ("nodes: {100: 5001}", "nodes[100]", "belongs to listeners[0].address"),
        ("nodes: {100: 7000, 101: 7000}", "nodes[101]", "belongs to nodes[100]"),
        ("nodes: {100: 0}", "nodes[100]", "at least 1"),
        ("nodes: {x: 7000}", "nodes.x", "must be a whole number"),
        ("nodes: [7000]", "nodes", "must be a map"),
        ("broker_ports: {count: 0}", "broker_ports.count", "at least 1"),
        ("broker_ports: 5", "broker_ports", "must be a map"),
        ("keys: {provider: valt}", "keys.provider", "aws, gcp, azure, pkcs11, identities, or module:Class"),
        ("keys: {provider: 'a b:C'}", "keys.provider", "must be one of"),
        ("keys: {provider: vault}", "keys.vault", "keys.provider names vault"),
        ("keys: {default: 'vault:x'}", "keys.vault", "keys.default names vault"),
        ("topics: [{match: a, accept_keys: ['pkcs11:x']}]", "keys.pkcs11", "topics[0] names pkcs11"),
        ("topics: [{match: a, key: 'module:x'}]", "topics[0]", "it names none"),
        ("topics: [{match: a, key: 'valt:x'}]", "topics[0].key", "'valt' is no provider of keys"),
        ("topics: [{match: a, key: '{topics}'}]", "topics[0].key", "{topic} for the topic's name"),
        ("topics: [{match: a, key: 'arn:aws:kms:eu-west-1:1:key/x'}]", "topics[0].key", "is no provider"),
        ("keys: {vault: {address: 'http://vault.example.net'}}", "keys.vault.address", "https://"),
        ("keys: {seal_lease_seconds: 0}", "keys.seal_lease_seconds", "at least 1"),
        ("keys: {unwrap_cache_seconds: -1}", "keys.unwrap_cache_seconds", "at least 0"),
        ("keys: {path: 5}", "keys.path", "must be a path"),
        ("limits: {epoch_key_hours: 25}", "limits.epoch_key_hours", "at most 24"),
        ("limits: {epoch_key_hours: 0}", "limits.epoch_key_hours", "more than 0"),
        ("limits: {frame_bytes: 10}", "limits.frame_bytes", "at least 65536"),
        ("limits: {frame_bytes: 3000000000}", "limits.frame_bytes", "at most 2147483647"),
        ("workers: 0", "workers", "at least 1"),
        ("workers: 65", "workers", "at most 64"),
        ("limits: {max_connections: 1.5}", "limits.max_connections", "whole number"),
        ("skip: [orders/1]", "skip[0]", "topic/partition/from-to"),
        ("skip: ['o rders/1/2-3']", "skip[0]", "no topic can have"),
        ("skip: [5]", "skip[0]", "must be text"),
    ],
)
def test_one_fault_is_told_where_it_is(problems, text, path, sentence):
    found = problems(text)
    assert list(found) == [path]
    assert sentence in found[path]


LOGIN = "mechanism: PLAIN, username: a, password: env:HOME"
OAUTH = "mechanism: OAUTHBEARER, client_id: a, client_secret: env:HOME"


@pytest.mark.parametrize(
    ("text", "path", "sentence"),
    [
        ("sasl: gssapi", "sasl", "must be passthrough, or a map"),
        ("sasl: 5", "sasl", "must be a map"),
        ("sasl: {}", "sasl.mechanism", "is missing"),
        ("own_sasl: {}", "own_sasl.mechanism", "is missing"),
        (f"sasl: {{{LOGIN}}}, own_sasl: {{{LOGIN}}}", "own_sasl", "has no use where upstream.sasl says"),
        ("sasl: {mechanism: GSSAPI}", "sasl.mechanism", "must be one of PLAIN, SCRAM-SHA-256"),
        ("sasl: {mechanism: PLAIN, password: env:HOME}", "sasl.username", "is missing: PLAIN needs it"),
        ("sasl: {mechanism: SCRAM-SHA-512, username: a}", "sasl.password", "is missing: SCRAM-SHA-512 needs it"),
        ("sasl: {mechanism: PLAIN, username: a, password: hunter2}", "sasl.password", "must be a reference"),
        ("sasl: {mechanism: PLAIN, username: 5, password: env:HOME}", "sasl.username", "must be text"),
        ("sasl: {mechanism: PLAIN, username: env:NOPE, password: env:HOME}", "sasl.username", "NOPE is not set"),
        ("sasl: {mechanism: PLAIN, username: a, password: env:HOME, scope: b}", "sasl.scope", "no meaning with PLAIN"),
        (f"sasl: {{{OAUTH}}}", "sasl.token_endpoint", "is missing"),
        (f"sasl: {{{OAUTH}, token_endpoint: 'http://idp/token'}}", "sasl.token_endpoint", "must begin with https://"),
        (f"sasl: {{{OAUTH}, token_endpoint: idp}}", "sasl.token_endpoint", "must be a URL"),
        (f"sasl: {{{OAUTH}, token_endpoint: 'ftp://idp/x'}}", "sasl.token_endpoint", "must be a URL"),
        (f"sasl: {{{OAUTH}, token_endpoint: 'https://a:b@idp'}}", "sasl.token_endpoint", "belong to client_id"),
        (f"sasl: {{{OAUTH}, token_endpoint: 'https://i', extensions: {{auth: x}}}}", "sasl.extensions", "extension"),
        (f"sasl: {{{OAUTH}, token_endpoint: 'https://i', extensions: {{a1: x}}}}", "sasl.extensions", "extension"),
        (
            f'sasl: {{{OAUTH}, token_endpoint: "https://i", extensions: {{a: "x\\x01"}}}}',
            "sasl.extensions",
            "printable",
        ),
        ("sasl: {mechanism: AWS_MSK_IAM}", "sasl.region", "is missing"),
        ("sasl: {mechanism: AWS_MSK_IAM, region: 'evil.net/?'}", "sasl.region", "name of an AWS region"),
        ("proxy: proxy:3128", "proxy", "must begin with http://"),
        ("proxy: 'https://proxy:3128'", "proxy", "must begin with http://"),
        ("proxy: 'http://proxy'", "proxy", "has no port"),
        ("proxy: 'http://eve:hunter2@proxy:1'", "proxy", "proxy_password"),
        ("proxy: 'http://@proxy:1'", "proxy", "no user"),
        ("proxy: 'http://proxy:1', proxy_password: env:HOME", "proxy_password", "has no use without a user"),
        ("proxy_password: env:HOME", "proxy_password", "has no use without a user"),
    ],
)
def test_of_the_way_to_the_cluster(problems, text, path, sentence):
    found = problems("", f"upstream: {{bootstrap: [broker:9092], {text}}}\n")
    assert list(found) == [f"upstream.{path}"]
    assert sentence in found[f"upstream.{path}"]
    assert "hunter2" not in str(found)


def test_a_signer_that_is_not_installed(problems, monkeypatch):
    monkeypatch.setattr(logins, "find_spec", lambda _: None)
    found = problems("", "upstream: {bootstrap: [a:1], sasl: {mechanism: AWS_MSK_IAM, region: eu-central-1}}\n")
    assert "pip install 'kveil[msk]'" in found["upstream.sasl.mechanism"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("listener: []", "did you mean listeners?"),
        ("topic: []", "did you mean topics?"),
        ("limits: {max_connection: 1}", "did you mean max_connections?"),
        ("topics: [{match: a, acept_plain: true}]", "did you mean accept_plain?"),
        ("log: {zzz: 1}", "known here: format, level"),
        ("upstream: {bootstrap: [a:1], tls: {certt: x}}", "did you mean cert?"),
    ],
)
def test_an_unknown_key_is_an_error_with_a_proposal(problems, text, hint):
    upstream = "" if text.startswith("upstream") else UPSTREAM
    (sentence,) = problems(text, upstream).values()
    assert "there is no such key" in sentence
    assert hint in sentence
