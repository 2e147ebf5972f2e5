"""Tokens for Amazon MSK: requests signed with the AWS credentials of this host, by the library of AWS, an extra."""

import asyncio
import time

from kveil.proxy.credentials.tokens import Token, TokenUnavailable
from kveil.proxy.secret import Secret


async def fetch_token(region: str) -> Token:
    """Sign a token. Finding the credentials may ask a file, a process or AWS: it runs in a thread.

    :raises TokenUnavailable: there are no credentials.
    """
    return await asyncio.to_thread(_sign, region)


def _sign(region: str) -> Token:
    from aws_msk_iam_sasl_signer import MSKAuthTokenProvider  # it is there: the configuration was checked

    try:
        text, expires_ms = MSKAuthTokenProvider.generate_auth_token(region)
    except (AttributeError, ValueError):  # what the library makes of credentials that it doesn't find
        raise TokenUnavailable("no AWS credentials were found on this host") from None
    except Exception as error:  # botocore's many, whose texts name files, profiles and hosts
        raise TokenUnavailable(f"AWS credentials can't be had: {error}") from error
    return Token(value=Secret(text.encode()), life_seconds=expires_ms / 1000 - time.time())
