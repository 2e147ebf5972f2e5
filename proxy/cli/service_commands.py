"""What an operator types at each key service: the proxy itself may use keys there, and no more."""

from typing import TYPE_CHECKING

from kveil.proxy.config import KeyService

if TYPE_CHECKING:
    from kveil.proxy.config import Keys


def rotation(service: KeyService, name: str, keys: "Keys") -> str:
    """How a key gets a new version there."""
    match service:
        case KeyService.VAULT:
            command = f"bao write -f {_mount(keys)}/keys/{name}/rotate"
        case KeyService.AWS:
            command = f"aws kms rotate-key-on-demand --key-id KEY_ID   (the key behind alias/{name})"
        case KeyService.GCP:
            command = f"gcloud kms keys versions create --primary --key {name} --keyring {_key_ring(keys)}"
        case KeyService.AZURE:
            command = f"az keyvault key rotate --id {_azure(keys)}/keys/{name}"
        case KeyService.PKCS11:
            return (
                f"make a key under a new label in the token, name it in `key` where {name} stands, and put {name} into "
                "`accept_keys`; then restart the proxies"
            )
        case _:
            command = f"rotate {name} in the service that {keys.provider} speaks to"
    return f"{command}\n{_NOTICED.format(seconds=f'{keys.seal_lease_seconds:g}')}"


def destruction(service: KeyService, name: str, keys: "Keys") -> str:
    """How a key is destroyed there."""
    match service:
        case KeyService.VAULT:
            path = f"{_mount(keys)}/keys/{name}"
            command = f"bao write {path}/config deletion_allowed=true && bao delete {path}"
        case KeyService.AWS:
            command = f"aws kms schedule-key-deletion --key-id KEY_ID   (the key behind alias/{name})"
        case KeyService.GCP:
            command = (
                f"gcloud kms keys versions destroy VERSION --key {name} --keyring {_key_ring(keys)}   (each of them)"
            )
        case KeyService.AZURE:
            command = f"az keyvault key delete --id {_azure(keys)}/keys/{name}, then az keyvault key purge"
        case KeyService.PKCS11:
            command = f"pkcs11-tool --login --delete-object --type secrkey --label {name}"
        case _:
            command = f"destroy {name} in the service that {keys.provider} speaks to"
    return (
        f"{command}\nWhat it sealed opens no more then: proxies that have opened it keep what they have unwrapped for "
        f"keys.unwrap_cache_seconds ({keys.unwrap_cache_seconds:g}), or until they are restarted."
    )


_NOTICED = "Proxies notice within keys.seal_lease_seconds ({seconds}), or at once by SIGHUP; older versions still open."


def _mount(keys: "Keys") -> str:
    return keys.vault.mount if keys.vault else "transit"


def _key_ring(keys: "Keys") -> str:
    return keys.gcp.key_ring if keys.gcp else "KEY_RING"


def _azure(keys: "Keys") -> str:
    return str(keys.azure.address).rstrip("/") if keys.azure else "HSM_ADDRESS"
