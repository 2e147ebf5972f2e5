"""Numbers of the format are for ever: a change here is a new format."""

from kveil.protocol.envelope import registry
from kveil.protocol.envelope.errors import EnvelopeError, NotSealed, Reason, Unopenable
from kveil.protocol.kafka import errors

FROZEN = {
    "MAGIC": b"\xc5KV",
    "VERSION": 1,
    "BATCH": 1,
    "RECORD": 2,
    "TOMBSTONE": 3,
    "HKDF_SHA512_AES_256_GCM": 1,
    "KEY_BLOCK": 0x81,
    "STREAM_POSITION": 0x82,
    "SIGNATURE": 0x83,
    "KEY_HIDING_KEY": 0x85,
    "ORIGIN_PARTITION": 0x86,
    "CRITICAL": 0x80,
    "ED25519": 1,
    "COMPRESSED": 1,
    "KEY_FILE": 1,
    "VAULT_TRANSIT": 2,
    "AWS_KMS": 3,
    "GOOGLE_KMS": 4,
    "AZURE_KEY_VAULT": 5,
    "PKCS11": 6,
    "ANNOUNCED": 7,
    "KEY_TOPIC": 8,
    "NO_WRAP": 0,
    "KVEIL_WRAP": 1,
    "SERVICE_AEAD": 2,
    "RSA_OAEP_SHA256": 3,
    "AES_KEY_WRAP_PAD": 4,
    "AES_KEY_WRAP": 5,
}


def test_ids_are_frozen():
    assert {name: getattr(registry, name) for name in FROZEN} == FROZEN


def test_no_mechanism_that_anyone_can_make():
    assert all(registry.RSA_OAEP_SHA256 not in allowed for allowed in registry.ALLOWED_MECHANISMS.values())


def test_error_codes_are_kafkas():
    codes = {
        errors.UnsupportedVersion: 35,
        errors.CorruptBatch: 2,
        errors.DecompressedTooLarge: 2,
        errors.InvalidRecord: 87,
        errors.BatchTooLarge: 10,
        EnvelopeError: 2,
        NotSealed: 2,
        Unopenable: 2,
    }
    for error, code in codes.items():
        assert error.code == code
        assert issubclass(error, errors.ProtocolError)
        assert issubclass(error, errors.BatchRefused) == (
            error in {errors.CorruptBatch, errors.DecompressedTooLarge, errors.InvalidRecord, errors.BatchTooLarge}
        )


def test_every_reason_is_in_the_specification():
    from pathlib import Path

    import kveil.protocol.envelope as package

    specification = (Path(package.__path__[0]) / "FORMAT.md").read_text()
    for reason in Reason:
        assert f"`{reason}`" in specification
