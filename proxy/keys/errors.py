"""What can go wrong with keys, one type for each reaction.

KeyRefused       permanent: this envelope will never open here.  CORRUPT_MESSAGE to a reader
 `-- KeyErased     its record key was erased on purpose, which a rule may have told to consumers otherwise
KeyDenied        whoever keeps the key says no: it is missing, disabled, destroyed or not ours to use.
                 TOPIC_AUTHORIZATION_FAILED to both
KeyUnavailable   may work later.  The retriable errors of kafka.md, "Errors a client understands"
KeysFull         as many record keys have keys as may.  POLICY_VIOLATION to a producer
KeySetupError    the keys can't be used as they are configured.  Exit code 2 at start
 `-- KeyFileError  the key file can't be used.  Exit code 2 at start; while running, the old content stays

A text names the provider, the key and the way out; never key material, a token, a PIN or a wrapped key.
"""


class KeyRefused(Exception):
    """No key for this, now or later. The text is for the log, never for a client."""


class KeyErased(KeyRefused):
    """The epoch key of a record key that was erased."""

    def __init__(self, record_id: bytes) -> None:
        super().__init__("its record key was erased: topics[].erased says what consumers get of its records")
        self.record_id = record_id


class KeyDenied(Exception):
    """The key may not be used, until somebody who may decide so says otherwise. The text is for the log."""


class KeyUnavailable(Exception):
    """The key can't be had right now: the client is told to try again."""


class KeysFull(Exception):
    """No epoch key is made for another record key. The text says what to raise."""


class KeySetupError(Exception):
    """The keys can't be used as they are configured. The text says why, and the way out."""

    exit_code = 2


class KeyFileError(KeySetupError):
    """The key file is missing, unsafe or damaged. The text says which, and the way out."""
