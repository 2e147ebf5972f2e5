"""Why a copy doesn't go on.

MigrateError          it was tried and went wrong: exit code 1
├── MigrateRefused    it isn't begun: what was asked for can't be right; exit code 2
├── TryAgain          for now: the copy begins anew from what was committed
└── TooLarge          a batch is over the limit of the topic: smaller ones are tried
"""


class MigrateError(Exception):
    """The copy didn't come to its end. The text is for the user, and says what to do."""

    exit_code = 1


class MigrateRefused(MigrateError):
    """Nothing was read or written."""

    exit_code = 2


class TryAgain(MigrateError):
    """A broker moved, or can't answer for now."""


class TooLarge(MigrateError):
    """The topic takes no batch of this size."""
