"""How an operator destroys older versions of a key in its service."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kveil.proxy.config import Keys
    from kveil.proxy.policy import KeyRef


def destroy_command(keys: "Keys", key: "KeyRef", versions: Sequence[str]) -> str:
    """The commands of the service's own tool, for a person to look at and run."""
    from kveil.proxy.config import KeyService
    from kveil.proxy.policy import SERVICES

    name = key.name
    match SERVICES[key.provider]:
        case KeyService.VAULT:
            path = f"{keys.vault.mount if keys.vault else 'transit'}/keys/{name}"
            least = max((int(one) for one in versions if one.isdecimal()), default=0) + 1
            return (
                f"  bao write {path}/config min_decryption_version={least} min_encryption_version={least}\n"
                f"  bao write {path}/trim min_available_version={least}"
            )
        case KeyService.AWS:
            return (
                "  aws kms schedule-key-deletion --pending-window-in-days 7 --key-id OLD_KEY_ID\n"
                f"with the id of the key that {name} stood for before. AWS never destroys a version that it rotated by "
                "itself: the new version must be a new key"
            )
        case KeyService.GCP:
            ring = keys.gcp.key_ring if keys.gcp else "KEY_RING"
            return "\n".join(
                f"  gcloud kms keys versions destroy {version} --key {ring}/cryptoKeys/{name}" for version in versions
            )
        case KeyService.AZURE:
            return (
                f"  az keyvault key delete --hsm-name HSM --name {name}\n"
                f"  az keyvault key purge --hsm-name HSM --name {name}\n"
                "once all proxies name another key: Azure deletes a key with all its versions"
            )
        case KeyService.PKCS11:
            return "\n".join(
                f"  pkcs11-tool --login --delete-object --type secrkey --label {name} --id {version or 'OLD_ID'}"
                for version in versions
            )
        case _:
            return f"  version {', '.join(versions)} of key {name}, where it is kept"
