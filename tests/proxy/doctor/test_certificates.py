"""How long a certificate is good."""

from datetime import timedelta

import pytest

from kveil.proxy.admin.certificates import expiry_of
from kveil.proxy.config import Settings
from kveil.proxy.doctor.certificates import judge_expiry, look_at_own
from kveil.proxy.doctor.findings import Level
from tests.support.certificates import CertificateAuthority

DAY = 86_400
NOW = 1_800_000_000.0  # 2027-01-15


@pytest.mark.parametrize(
    ("left", "level", "said"),
    [
        (-1, Level.FAILURE, "expired on 2027-01-15"),
        (0, Level.FAILURE, "expired on 2027-01-15"),
        (1, Level.WARNING, "in 0 days"),
        (DAY, Level.WARNING, "in 1 day"),
        (30 * DAY - 1, Level.WARNING, "in 29 days"),
        (30 * DAY, Level.OK, "expires on 2027-02-14, in 30 days"),
        (365 * DAY, Level.OK, "in 365 days"),
    ],
)
def test_days_left(left, level, said):
    found = judge_expiry("x", "the certificate c", NOW + left, NOW)
    assert found.level is level
    assert found.what.startswith("the certificate c expire")
    assert found.what.endswith(said)
    assert (found.remedy is None) == (level is Level.OK)


def test_one_that_can_not_be_read():
    assert judge_expiry("x", "c", None, NOW).level is Level.WARNING


def test_the_proxys_own(tmp_path):
    """That of the client, and that of each listener which has one."""
    authority = CertificateAuthority(tmp_path)
    long, short = (authority.issue(name, life=timedelta(days=days)) for name, days in (("long", 100), ("short", 5)))
    settings = Settings.model_validate(
        {
            "upstream": {"bootstrap": ["b:1"], "tls": {"cert": str(long.chain), "key": str(long.key)}},
            "listeners": [
                {"address": "127.0.0.1:5000"},
                {"address": "127.0.0.1:6000", "tls": {"cert": str(short.both)}},
            ],
        }
    )
    now = (expiry_of(long.chain) or 0) - 99.5 * DAY
    client, listener = look_at_own(settings, now)
    assert (client.level, client.what.split()[0]) == (Level.OK, "upstream.tls.cert")
    assert (listener.level, listener.what.split()[0]) == (Level.WARNING, "listeners[1].tls.cert")
    assert str(short.both) in listener.what


def test_none_to_look_at():
    assert look_at_own(Settings.model_validate({"upstream": {"bootstrap": ["b:1"]}}), NOW) == []
