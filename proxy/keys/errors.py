"""What can go wrong with keys, one type for each reaction.

KeyRefused       permanent: this envelope will never open here.  CORRUPT_MESSAGE to a reader
KeyUnavailable   may work later.  The retriable errors of kafka.md, "Errors a client understands"
KeyFileError     the key file can't be used.  Exit code 2 at start; while running, the old content stays
"""


class KeyRefused(Exception):
    """No key for this, now or later. The text is for the log, never for a client."""


class KeyUnavailable(Exception):
    """The key can't be had right now: the client is told to try again."""


class KeyFileError(Exception):
    """The key file is missing, unsafe or damaged. The text says which, and the way out."""

    exit_code = 2
