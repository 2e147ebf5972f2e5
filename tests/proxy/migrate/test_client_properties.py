"""The login out of a properties file, as Kafka's own tools read it."""

import pytest

from kveil.proxy.config import load
from kveil.proxy.migrate.client_properties import with_login
from kveil.proxy.migrate.errors import MigrateRefused

PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
SETTINGS = load(None, {"KVEIL_UPSTREAM__BOOTSTRAP": "a:1"})


def login_of(tmp_path, text):
    path = tmp_path / "client.properties"
    path.write_text(text)
    sasl = with_login(SETTINGS, path).upstream.sasl
    return sasl.mechanism.value, sasl.username.read().reveal(), sasl.password.read().reveal()


@pytest.mark.parametrize(
    ("text", "username", "password"),
    [
        (f'sasl.jaas.config={PLAIN} username="alice" password="s3cret";', b"alice", b"s3cret"),
        (f"sasl.jaas.config={PLAIN} username='alice' password='s3 cret';", b"alice", b"s3 cret"),
        (f'sasl.jaas.config = {PLAIN} \\\n    username="alice" \\\n    password="s=;\\"x";', b"alice", b's=;"x'),
        (f"sasl.jaas.config={PLAIN} username=alice password=s3cret;", b"alice", b"s3cret"),
        ("sasl.username=alice\n# a comment\n\nsasl.password=s3cret", b"alice", b"s3cret"),
        (f'sasl.jaas.config={PLAIN} username="alice" password="";', b"alice", b""),
    ],
)
def test_ways_to_write_it(tmp_path, text, username, password):
    assert login_of(tmp_path, f"sasl.mechanism=PLAIN\n{text}\n") == ("PLAIN", username, password)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_by_scram(tmp_path, mechanism):
    text = f"security.protocol=SASL_SSL\nsasl.mechanism={mechanism}\nsasl.username=a\nsasl.password=b"
    assert login_of(tmp_path, text) == (mechanism, b"a", b"b")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "sasl.mechanism must be one of"),
        ("sasl.mechanism=OAUTHBEARER", "write upstream.sasl"),
        ("sasl.mechanism=PLAIN", "no username and password"),
        ("sasl.mechanism=PLAIN\nsasl.username=hush-hush", "no username and password"),
    ],
)
def test_what_is_of_no_use(tmp_path, text, reason):
    with pytest.raises(MigrateRefused, match=reason) as refused:
        login_of(tmp_path, text)
    assert "hush-hush" not in str(refused.value)
    assert str(tmp_path / "client.properties") in str(refused.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(MigrateRefused, match="No such file"):
        with_login(SETTINGS, tmp_path / "none")


def test_where_the_proxy_logs_in_already(tmp_path):
    path = tmp_path / "client.properties"
    path.write_text("sasl.mechanism=PLAIN\nsasl.username=a\nsasl.password=b")
    with pytest.raises(MigrateRefused, match="no meaning"):
        with_login(with_login(SETTINGS, path), path)


def test_the_password_is_not_shown(tmp_path):
    path = tmp_path / "client.properties"
    path.write_text("sasl.mechanism=PLAIN\nsasl.username=alice\nsasl.password=hush-hush")
    assert "hush-hush" not in repr(with_login(SETTINGS, path))
