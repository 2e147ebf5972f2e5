"""What can be wrong with a token. The reaction is one and the same: the login fails."""


class LoginRefused(Exception):
    """The token isn't what the mechanism asks for, or proves nothing. The text is for the log, never for the client."""
