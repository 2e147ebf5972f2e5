"""Numbers of the format. They are for ever: never changed, never reused (FORMAT.md, section 8; frozen by a
test).
"""

from __future__ import annotations

from typing import Final

MAGIC: Final = b"\xc5KV"
VERSION: Final = 1

# Modes
BATCH: Final = 1
RECORD: Final = 2
TOMBSTONE: Final = 3

# Suites
HKDF_SHA512_AES_256_GCM: Final = 1

# Extension types; the high bit says critical
KEY_BLOCK: Final = 0x81
STREAM_POSITION: Final = 0x82  # provider 7 only
SIGNATURE: Final = 0x83  # provider 7 only
KEY_HIDING_KEY: Final = 0x85  # modes 2 and 3 only
ORIGIN_PARTITION: Final = 0x86
CRITICAL: Final = 0x80

# Suites of signatures
ED25519: Final = 1

# Plaintext flags
COMPRESSED: Final = 0x01

# Providers: who wraps epoch keys
KEY_FILE: Final = 1
VAULT_TRANSIT: Final = 2
AWS_KMS: Final = 3
GOOGLE_KMS: Final = 4
AZURE_KEY_VAULT: Final = 5
PKCS11: Final = 6
ANNOUNCED: Final = 7
KEY_TOPIC: Final = 8
PRIVATE_USE: Final = 128  # a provider of the deployment's own: readers elsewhere don't know it

# Mechanisms: how an epoch key is wrapped
NO_WRAP: Final = 0  # the wrap is empty, the key travels elsewhere
KVEIL_WRAP: Final = 1  # FORMAT.md, section 7
SERVICE_AEAD: Final = 2  # the key service's own authenticated encryption, opaque here
RSA_OAEP_SHA256: Final = 3  # reserved: anyone can make one from a public key, so it needs a signed block
AES_KEY_WRAP_PAD: Final = 4  # RFC 5649
AES_KEY_WRAP: Final = 5  # RFC 3394

# The allow-list: which mechanisms a reader takes from which provider. RSA PKCS#1 v1.5 will never be in it.
ALLOWED_MECHANISMS: Final[dict[int, frozenset[int]]] = {
    KEY_FILE: frozenset({KVEIL_WRAP}),
    VAULT_TRANSIT: frozenset({SERVICE_AEAD}),
    AWS_KMS: frozenset({SERVICE_AEAD}),
    GOOGLE_KMS: frozenset({SERVICE_AEAD}),
    AZURE_KEY_VAULT: frozenset({AES_KEY_WRAP}),
    PKCS11: frozenset({AES_KEY_WRAP_PAD}),
    ANNOUNCED: frozenset({NO_WRAP}),
    KEY_TOPIC: frozenset({NO_WRAP}),
    PRIVATE_USE: frozenset({SERVICE_AEAD}),
}
