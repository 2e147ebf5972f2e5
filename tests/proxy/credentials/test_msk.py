"""Tokens for Amazon MSK, signed offline."""

import base64
from urllib.parse import parse_qs, urlsplit

import pytest

from kveil.proxy.credentials import msk
from kveil.proxy.credentials.tokens import TokenUnavailable

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


@pytest.fixture
def no_aws(monkeypatch, tmp_path):
    """A host without credentials, which asks nobody for them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


async def test_a_signed_request(no_aws, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    token = await msk.fetch_token("eu-central-1")
    text = token.value.reveal().decode()
    url = urlsplit(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode())
    query = parse_qs(url.query)
    assert url.hostname == "kafka.eu-central-1.amazonaws.com"
    assert query["Action"] == ["kafka-cluster:Connect"]
    assert query["X-Amz-Credential"][0].startswith(KEY)
    assert SECRET not in str(url)
    assert 800 < token.life_seconds <= 900


async def test_no_credentials(no_aws):
    with pytest.raises(TokenUnavailable, match="no AWS credentials"):
        await msk.fetch_token("eu-central-1")


async def test_a_profile_that_is_not_there(no_aws, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nope")
    with pytest.raises(TokenUnavailable, match=r"credentials can't be had: .*nope"):
        await msk.fetch_token("eu-central-1")
