"""The deployment that the keys belong to: its name, and what hides records' keys there."""

from dataclasses import dataclass

from kveil.proxy.config import KeyService, Settings
from kveil.proxy.keys.errors import KeyFileError, KeySetupError
from kveil.proxy.keys.keyfile import HidingKey, WrappedHidingKey
from kveil.proxy.keys.keyfile_store import read_key_file
from kveil.proxy.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Realm:
    """One deployment. Neither changes while there is data."""

    name: str
    hiding_key: HidingKey | WrappedHidingKey | None
    """None if none was made: record mode with hidden keys is refused then."""
    has_authority: bool = False
    """Whether an authority hands the key-hiding key to this node, whatever else is there."""


def open_realm(settings: Settings, policy: Policy) -> Realm:
    """The realm that this node's membership, the key file or the settings name. Raises KeySetupError."""
    if policy.any_identities:
        return _open_membership(settings, policy)
    path = settings.keys.path
    if settings.keys.service is not KeyService.KEYFILE and not path.exists():
        if settings.realm is None:
            msg = (
                f"realm: nothing names the deployment: `kveil keys init` makes {path}, which does, "
                "or set realm in the configuration"
            )
            raise KeySetupError(msg)
        return Realm(name=settings.realm, hiding_key=None)
    content, _ = read_key_file(path)
    if settings.realm is not None and settings.realm != content.realm:
        msg = (
            f"realm: the configuration says {settings.realm}, and the key file {path} belongs "
            f"to {content.realm}: leave realm out, or name the right key file"
        )
        raise KeyFileError(msg)
    return Realm(name=content.realm, hiding_key=content.key_hiding_key)


def _open_membership(settings: Settings, policy: Policy) -> Realm:
    """The realm of this node's identity. A key file of that realm may be there too, with the key-hiding key."""
    from kveil.proxy.identity.node_files import NodeFiles

    name = NodeFiles(settings.identity.path).membership().realm
    if settings.realm not in {None, name}:
        msg = (
            f"realm: the configuration says {settings.realm}, and the identity in {settings.identity.path} belongs to "
            f"{name}: leave realm out, or name the right identity.path"
        )
        raise KeySetupError(msg)
    path = settings.keys.path
    needs_file = KeyService.KEYFILE in policy.services
    if not needs_file and not path.exists():
        return Realm(name=name, hiding_key=None, has_authority=True)
    content, _ = read_key_file(path)
    if content.realm == name:
        return Realm(name=name, hiding_key=content.key_hiding_key, has_authority=True)
    if needs_file:
        msg = (
            f"realm: the identity in {settings.identity.path} belongs to {name}, and the key file {path} to "
            f"{content.realm}: one process has one realm. `kveil authority init` can be told the name of one"
        )
        raise KeyFileError(msg)
    return Realm(name=name, hiding_key=None, has_authority=True)
