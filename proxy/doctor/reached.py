"""What there is to say of the way to a broker: pure."""

import ssl
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from kveil.proxy.config import Settings, UpstreamTls
from kveil.proxy.doctor.certificates import judge_expiry
from kveil.proxy.doctor.findings import Finding, failure, ok, warning
from kveil.proxy.doctor.reach import Reached, describe

_NAME_MISMATCH: Final = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH (OpenSSL, x509_vfy.h)."""
_UNTRUSTED: Final = frozenset({2, 18, 19, 20, 21})
_EXPIRED: Final = 10
_NOT_YET: Final = 9


def judge(reached: Reached, settings: Settings, now: float, *, prefix: str = "") -> Iterator[Finding]:
    """Say what was met on the way, step by step. `now` is Unix time."""
    yield _judge_name(f"{prefix}name", reached, settings)
    if reached.name_error is not None:
        return
    check = f"{prefix}connection"
    remedy = "see whether the broker runs and listens there, and whether a firewall lets this host through"
    tell = warning if reached.is_open else failure
    for address, reason in reached.closed.items():
        where = "" if address == reached.endpoint.host else f" at {address}"
        yield tell(check, f"{reached.endpoint} takes no connection{where}: {reason}", remedy)
    if not reached.is_open:
        return
    if settings.upstream.tls is not None:
        yield from _judge_tls(f"{prefix}tls", reached, settings.upstream.tls, now)
        if reached.tls_error is not None:
            return
    if not reached.is_well:
        yield failure(check, f"{reached.endpoint}: {reached.answer_error}", _silence_remedy(reached, settings))
    elif settings.upstream.tls is None:
        yield _judge_plain(check, reached, settings)
    else:
        yield ok(check, f"{reached.endpoint} answers")


def _judge_name(check: str, reached: Reached, settings: Settings) -> Finding:
    host = reached.endpoint.host
    if settings.upstream.proxy is not None:
        return ok(check, f"{host} is left to {settings.upstream.proxy} to resolve")
    if reached.name_error is not None:
        remedy = "see whether the name is right, and whether this host's resolver (/etc/resolv.conf) knows it"
        return failure(check, f"{host} doesn't resolve: {reached.name_error}", remedy)
    return ok(check, f"{host} is {', '.join(each for each in reached.addresses if each != host) or 'an address'}")


def _judge_tls(check: str, reached: Reached, tls: UpstreamTls, now: float) -> Iterator[Finding]:
    shown = reached.chain[0] if reached.chain else None
    about = "" if shown is None else f"; it shows {shown.subject}, issued by {shown.issuer}"
    if reached.tls_error is not None:
        yield failure(check, f"{reached.endpoint}: {_tls_reason(reached.tls_error)}{about}", _tls_remedy(reached))
        return
    trusted = tls.ca or "the system's roots"
    yield ok(check, f"{reached.endpoint} speaks {reached.tls_version}{about}, which {trusted} vouches for")
    for certificate in reached.chain:
        about = f"{reached.endpoint}: the certificate of {certificate.subject}"
        yield judge_expiry(check, about, certificate.expires, now)


def _judge_plain(check: str, reached: Reached, settings: Settings) -> Finding:
    if reached.addresses and all(ip_address(each.partition("%")[0]).is_loopback for each in reached.addresses):
        return ok(check, f"{reached.endpoint} answers, without TLS and on this host")
    text = f"{reached.endpoint} answers, without TLS: records are sealed, but names of topics, sizes and"
    logs_in = settings.upstream.sasl is not None
    return warning(
        check,
        f"{text} {'the login' if logs_in else 'logins'} can be read on the way",
        "set upstream.tls and use the brokers' TLS listener",
    )


def _silence_remedy(reached: Reached, settings: Settings) -> str:
    if reached.speaks_tls:
        return "the port speaks TLS: set upstream.tls, or use --tls"
    if settings.upstream.tls is not None and settings.upstream.tls.cert is None:
        return "see whether that is a Kafka broker's port; if it asks for a client certificate, set upstream.tls.cert"
    return "see whether that is a Kafka broker's port for clients"


def _tls_reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
    return f"no TLS came about: {describe(error) if isinstance(error, OSError) else error}"


def _tls_remedy(reached: Reached) -> str:
    error = reached.tls_error
    if not isinstance(error, ssl.SSLCertVerificationError):
        return "see whether that is a TLS port that speaks upstream.tls.min_version or later; else remove upstream.tls"
    if error.verify_code in _NAME_MISMATCH:
        return "name the broker in upstream.bootstrap, or in its advertised.listeners, as its certificate does"
    if error.verify_code == _EXPIRED:
        return "renew the certificate at the broker"
    if error.verify_code == _NOT_YET:
        return "set the clock of this host, or wait"
    if error.verify_code in _UNTRUSTED:
        return "put the certificate of its issuer into the file of upstream.tls.ca (--tls-ca)"
    return "renew the certificate at the broker, or mend upstream.tls.ca"
