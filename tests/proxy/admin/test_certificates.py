"""What a certificate says, against what the library that made it says."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kveil.proxy.admin.certificates import expiry_of, read_certificate
from tests.support.certificates import CertificateAuthority

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kveil")])


def certificate(path: Path, until: datetime) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateBuilder(
        NAME, NAME, key.public_key(), x509.random_serial_number(), until - timedelta(days=1), until
    ).sign(key, hashes.SHA256())
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize("year", [1950, 1999, 2030, 2049, 2050, 2100])  # written in two digits up to 2049
def test_years(tmp_path, year):
    until = datetime(year, 6, 5, 4, 3, 2, tzinfo=UTC)
    assert expiry_of(certificate(tmp_path / "c.pem", until)) == until.timestamp()


def test_the_first_of_a_file_counts(tmp_path):
    first, second = (certificate(tmp_path / f"{year}", datetime(year, 1, 1, tzinfo=UTC)) for year in (2031, 2032))
    both = tmp_path / "both.pem"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    assert expiry_of(both) == datetime(2031, 1, 1, tzinfo=UTC).timestamp()


def test_behind_a_key(tmp_path):
    made = CertificateAuthority(tmp_path).issue("kveil")
    (loaded,) = x509.load_pem_x509_certificates(made.chain.read_bytes())
    assert expiry_of(made.both) == loaded.not_valid_after_utc.timestamp()


@pytest.mark.parametrize("end", range(0, 700, 7))
def test_a_broken_file_says_nothing(tmp_path, end):
    whole = certificate(tmp_path / "c.pem", datetime(2031, 1, 1, tzinfo=UTC)).read_bytes()
    (tmp_path / "c.pem").write_bytes(whole[: min(end, len(whole) - 2)])
    assert expiry_of(tmp_path / "c.pem") is None


def test_a_certificate_of_nothing(tmp_path):
    path = tmp_path / "c.pem"
    path.write_text("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
    assert expiry_of(path) is None
    assert expiry_of(tmp_path / "none") is None


def made(subject, issuer=NAME) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime(2030, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), 1, now, now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def name(*parts) -> x509.Name:
    return x509.Name([x509.NameAttribute(kind, text) for kind, text in parts])


CN, ORGANIZATION, UNIT, COUNTRY = (
    NameOID.COMMON_NAME,
    NameOID.ORGANIZATION_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.COUNTRY_NAME,
)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([(CN, "b")], "CN=b"),
        ([(COUNTRY, "DE"), (ORGANIZATION, "Ä & Co"), (UNIT, "Kafka"), (CN, "b")], "O=Ä & Co, OU=Kafka, CN=b"),
        ([(COUNTRY, "DE")], "a name without CN, O and OU"),
        ([], "a name without CN, O and OU"),
        ([(CN, "a\x1b[2Jb\n")], "CN=a?[2Jb?"),  # nobody writes on our user's terminal
    ],
)
def test_names(parts, said):
    found = read_certificate(made(name(*parts), name((CN, "issuer"))))
    assert (found.subject, found.issuer) == (said, "CN=issuer")
    assert found.expires == datetime(2030, 1, 2, tzinfo=UTC).timestamp()


def test_what_is_no_certificate():
    for data in (b"", b"\x30\x00", b"nonsense", made(NAME)[:40]):
        with pytest.raises((ValueError, IndexError)):
            read_certificate(data)
