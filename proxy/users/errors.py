"""What can be wrong with a users file."""


class UsersFileError(Exception):
    """The users file is missing, unsafe or damaged, or has no such user. The text says which, and the way out."""

    exit_code = 2
