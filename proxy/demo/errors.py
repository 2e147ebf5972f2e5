"""Why a demonstration can't be given.

DemoError
    DemoImpossible    something isn't installed: exit code 2
    DemoFailed        it was tried and went wrong: exit code 1
"""


class DemoError(Exception):
    """The demonstration didn't come to its end. The text is for the user."""

    exit_code = 1


class DemoImpossible(DemoError):
    """Something that it needs isn't there."""

    exit_code = 2


class DemoFailed(DemoError):
    """It was tried and went wrong."""
