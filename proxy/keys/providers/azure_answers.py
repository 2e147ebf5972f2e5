"""What is taken out of Managed HSM's answers, which are checked as any peer's are. Shapes: its REST API, "Keys"."""

import base64
import re
from typing import Any, Final

from azure.core.rest import AsyncHttpResponse

from kveil.proxy.keys.errors import KeyUnavailable

VERSION: Final = re.compile(r"[0-9a-f]{32}")
_CODE: Final = re.compile(r"[A-Za-z]{1,64}")


def json_of(response: AsyncHttpResponse) -> dict[str, Any] | None:
    try:
        answer = response.json()
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def version_in(answer: dict[str, Any]) -> str:
    """The end of a key's URL, which is all that is believed of it. Raises KeyUnavailable."""
    version = str(answer.get("kid")).rpartition("/")[2]
    if not VERSION.fullmatch(version):
        msg = "Azure Managed HSM named a key without a version"
        raise KeyUnavailable(msg)
    return version


def bytes_in(answer: dict[str, Any], length: int) -> bytes:
    """What was wrapped or unwrapped. Raises KeyUnavailable."""
    text = str(answer.get("value"))
    try:
        value = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        value = b""
    if len(value) != length:
        msg = f"Azure Managed HSM answered with something that isn't {length} bytes"
        raise KeyUnavailable(msg)
    return value


def created_at(one: dict[str, Any]) -> int:
    """When a version was made, in seconds since 1970."""
    return int((one.get("attributes") or {}).get("created") or 0)


def codes_in(answer: object) -> str:
    """The service's names for what was wrong, as far as they are names."""
    error = answer.get("error") if isinstance(answer, dict) else None
    codes: list[object] = []
    while isinstance(error, dict) and len(codes) < 3:
        codes.append(error.get("code"))
        error = error.get("innererror")
    return "".join(f" {code}" for code in codes if isinstance(code, str) and _CODE.fullmatch(code))
