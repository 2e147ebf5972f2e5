"""Addresses, references to secrets, skipped offsets, default places."""

from pathlib import Path

import pytest

from kveil.protocol.envelope.key_schedule import MAX_EPOCH_SECONDS
from kveil.proxy.config import ForwardProxy, HostPort, SecretRef, Skip, default_key_path, limits


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("localhost:5000", "localhost", 5000),
        ("127.0.0.1:1", "127.0.0.1", 1),
        ("[::1]:65535", "::1", 65535),
        (" broker.example.net:9092 ", "broker.example.net", 9092),
    ],
)
def test_an_address_and_back(text, host, port):
    address = HostPort.parse(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        ":5000",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "localhost:-1",
        "localhost:5e3",
        "localhost:٣",
        "::1:5000",
        "[]:5000",
        "a b:5000",
        "user@host:5000",
        "http://host:5000",
        "a:1,b:2",
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match=r"host:port|usable port|brackets"):
        HostPort.parse(text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LocalHost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.1", False),
        ("localhost.evil.example", False),
        ("kafka", False),
        # A name may lead anywhere, whatever it looks like.
        ("127.0.0.1.example.net", False),
    ],
)
def test_what_is_loopback(host, expected):
    assert HostPort(host=host, port=1).is_loopback is expected


@pytest.mark.parametrize(
    ("text", "username", "host"),
    [
        ("http://proxy.example.net:3128", None, "proxy.example.net"),
        ("socks5://eve%40home@[::1]:1080", "eve@home", "::1"),
        ("http://eve@proxy:3128/", "eve", "proxy"),
    ],
)
def test_a_forward_proxy_and_back(text, username, host):
    proxy = ForwardProxy.parse(text)
    assert (proxy.username, proxy.address.host) == (username, host)
    assert str(proxy) == text.removesuffix("/")


def test_a_secret_from_a_file_loses_one_newline(tmp_path):
    place = tmp_path / "secret"
    place.write_bytes(b"hunter2\n\n")
    assert SecretRef.parse(f"file:{place}").read().reveal() == b"hunter2\n"
    place.write_bytes(b"hunter2\r\n")
    assert SecretRef.parse(f"file:{place}").read().reveal() == b"hunter2"


def test_a_secret_from_the_environment():
    assert SecretRef.parse("env:API_KEY").read({"API_KEY": "hunter2"}).reveal() == b"hunter2"


@pytest.mark.parametrize("text", ["hunter2", "file:", "env:", "vault:x", "", "FILE:/x"])
def test_what_is_no_reference_is_not_repeated(text):
    with pytest.raises(ValueError, match="file:PATH or env:NAME") as caught:
        SecretRef.parse(text)
    assert not text or text not in str(caught.value).replace("file:PATH", "").replace("env:NAME", "")


def test_a_secret_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="NOPE is not set"):
        SecretRef.parse("env:NOPE").read({})
    with pytest.raises(ValueError, match="No such file"):
        SecretRef.parse(f"file:{tmp_path}/nope").read()


def test_a_file_that_is_too_large_for_a_secret(tmp_path):
    place = tmp_path / "big"
    place.write_bytes(b"x" * 65_537)
    with pytest.raises(ValueError, match="no password"):
        SecretRef.parse(f"file:{place}").read()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("orders/3/1200-1207", Skip(topic="orders", partition=3, first=1200, last=1207)),
        ("a.b_c-d/0/0-0", Skip(topic="a.b_c-d", partition=0, first=0, last=0)),
        ("orders/3/7", Skip(topic="orders", partition=3, first=7, last=7)),
        ("o/2147483647/0-9223372036854775807", Skip(topic="o", partition=2**31 - 1, first=0, last=2**63 - 1)),
    ],
)
def test_skipped_offsets(text, expected):
    assert Skip.parse(text) == expected
    assert Skip.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "orders",
        "orders/1",
        "orders/1/",
        "orders/1/5-4",
        "orders/-1/5-6",
        "orders/1/-5",
        "orders/2147483648/1-2",
        "orders/1/1-9223372036854775808",
        "a/b/1/2-3",
        "or*ders/1/2-3",
        "orders/1/2-3 ",
    ],
)
def test_what_names_no_offsets(text):
    with pytest.raises(ValueError, match=r"topic|from must not be after to|larger than Kafka's"):
        Skip.parse(text)


def test_root_keeps_its_keys_with_the_system():
    assert default_key_path({"HOME": "/root", "XDG_DATA_HOME": "/x"}, uid=0) == Path("/var/lib/kveil/keys.json")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HOME": "/home/a"}, "/home/a/.local/share/kveil/keys.json"),
        ({"HOME": "/home/a", "XDG_DATA_HOME": "/data"}, "/data/kveil/keys.json"),
        ({"HOME": "/home/a", "XDG_DATA_HOME": "relative"}, "/home/a/.local/share/kveil/keys.json"),
        ({"HOME": "/home/a", "XDG_DATA_HOME": ""}, "/home/a/.local/share/kveil/keys.json"),
    ],
)
def test_others_keep_theirs_at_home(environ, expected):
    assert default_key_path(environ, uid=1000) == Path(expected)


def test_the_age_limit_is_the_format_s():
    assert limits.EPOCH_KEY_HOURS * 3600 == MAX_EPOCH_SECONDS
