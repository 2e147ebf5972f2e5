"""`kveil identity`: who this host is."""

from pathlib import Path
from typing import Any

from kveil.proxy.cli import identities, options
from kveil.proxy.cli.apps import command_app
from kveil.proxy.cli.telling import tell

app = command_app()


@app.callback()
def identity() -> None:
    """Show who this host is in its realm."""


@app.command()
def show(
    identity_directory: identities.IdentityDirectory = None,
    config: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Show this host's fingerprint, and whom it believes. Needs neither the cluster, passphrase nor token."""
    shown = _shown(identities.node_directory(identity_directory, config))
    lines = [f"{shown['directory']}", f"fingerprint: {identities.fingerprint(bytes.fromhex(shown['fingerprint']))}"]
    if shown["realm"] is None:
        lines.append("not enrolled yet: `kveil enroll` makes it a member of a realm")
    else:
        lines += [
            f"realm: {shown['realm']}",
            f"authority: {identities.fingerprint(bytes.fromhex(shown['authority']))}",
            f"newest checkpoint that was seen: {shown['checkpoint']}",
        ]
    tell("\n".join(lines), shown, as_json=as_json)


def _shown(directory: Path) -> dict[str, Any]:
    from kveil.proxy.identity.identity_file import protected_by, read_fingerprint
    from kveil.proxy.identity.node_files import NodeFiles

    protection = protected_by(directory)
    shown: dict[str, Any] = {
        "directory": str(directory),
        "fingerprint": read_fingerprint(directory).hex(),
        "passphrase": protection == "passphrase",
        "pkcs11": protection == "pkcs11",
        "realm": None,
        "authority": None,
        "checkpoint": None,
    }
    files = NodeFiles(directory)
    if files.is_enrolled:
        membership = files.membership()
        mark = files.mark()
        shown |= {"realm": membership.realm, "authority": membership.authority.hex(), "checkpoint": mark.number}
    return shown
