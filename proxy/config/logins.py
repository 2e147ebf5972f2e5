"""Which keys of upstream.sasl belong to which mechanism."""

from importlib.util import find_spec
from typing import Final

from kveil.proxy.config.choices import Mechanism

_PASSWORD: Final = (frozenset({"username", "password"}), frozenset[str]())
_NEEDED_AND_ALLOWED: Final[dict[Mechanism, tuple[frozenset[str], frozenset[str]]]] = {
    Mechanism.PLAIN: _PASSWORD,
    Mechanism.SCRAM_SHA_256: _PASSWORD,
    Mechanism.SCRAM_SHA_512: _PASSWORD,
    Mechanism.OAUTHBEARER: (
        frozenset({"token_endpoint", "client_id", "client_secret"}),
        frozenset({"scope", "ca", "extensions"}),
    ),
    Mechanism.AWS_MSK_IAM: (frozenset({"region"}), frozenset()),
}


def check_mechanism(mechanism: Mechanism) -> Mechanism:
    """`mechanism` if what it needs is installed."""
    if mechanism is Mechanism.AWS_MSK_IAM and find_spec("aws_msk_iam_sasl_signer") is None:
        msg = "AWS_MSK_IAM needs AWS's signer, which is not installed: pip install 'kveil[msk]'"
        raise ValueError(msg)
    return mechanism


def check_key(mechanism: Mechanism, name: str, *, given: bool) -> None:
    """Raises ValueError if the mechanism lacks this key, or has no use for it."""
    needed, allowed = _NEEDED_AND_ALLOWED[mechanism]
    if name in needed and not given:
        msg = f"is missing: {mechanism.value} needs it"
        raise ValueError(msg)
    if given and name not in needed | allowed:
        msg = f"has no meaning with {mechanism.value}, which takes {', '.join(sorted(needed | allowed))}"
        raise ValueError(msg)
