"""What can go wrong with keys, one type for each reaction.

KeyRefused       permanent: this envelope will never open here.  CORRUPT_MESSAGE to a reader
KeyDenied        whoever keeps the key says no: it is missing, disabled, destroyed or not ours to use.
                 TOPIC_AUTHORIZATION_FAILED to both
KeyUnavailable   may work later.  The retriable errors of kafka.md, "Errors a client understands"
KeySetupError    the keys can't be used as they are configured.  Exit code 2 at start
 `-- KeyFileError  the key file can't be used.  Exit code 2 at start; while running, the old content stays

A text names the provider, the key and the way out; never key material, a token, a PIN or a wrapped key.
"""


class KeyRefused(Exception):
    """No key for this, now or later. The text is for the log, never for a client."""


class KeyDenied(Exception):
    """The key may not be used, until somebody who may decide so says otherwise. The text is for the log."""


class KeyUnavailable(Exception):
    """The key can't be had right now: the client is told to try again."""


class KeySetupError(Exception):
    """The keys can't be used as they are configured. The text says why, and the way out."""

    exit_code = 2


class KeyFileError(KeySetupError):
    """The key file is missing, unsafe or damaged. The text says which, and the way out."""
