"""What deploy/ holds can be used as it is."""

from pathlib import Path

from kveil.proxy.config import load
from kveil.proxy.policy import Policy

DEPLOY = Path(__file__).parent.parent / "deploy"


def test_the_configuration_to_begin_with_seals_what_it_does_not_name():
    settings = load(DEPLOY / "kveil.yaml", {}, ())
    policy = Policy(settings)
    assert policy.rule_for("orders").seal
    assert not policy.rule_for("metrics.cpu").seal
    assert settings.upstream.tls is not None
    assert all(listener.address.is_loopback for listener in settings.listeners)
