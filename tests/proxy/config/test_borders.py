"""One library per job, imported in one place: what would otherwise creep in by and by."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def imported(file: Path) -> set[str]:
    """The top-level names of all that a file imports, inside of functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def importers(library: str) -> set[str]:
    files = [*(ROOT / "proxy").rglob("*.py"), *(ROOT / "protocol").rglob("*.py")]
    return {str(file.relative_to(ROOT)) for file in files if library in imported(file)}


@pytest.mark.parametrize(
    ("library", "place"),
    [
        ("pydantic", "proxy/config/"),
        ("pydantic_core", "proxy/config/"),
        ("yaml", "proxy/config/"),
        ("typer", "proxy/cli/"),
        ("rich", ("proxy/cli/", "proxy/demo/")),
        ("structlog", "proxy/log.py"),
        ("fcntl", ("proxy/file_lock.py",)),
        (
            "aiohttp",
            ("proxy/credentials/token_endpoint.py", "proxy/admin/site.py", "proxy/keys/providers/vault_http.py"),
        ),
        ("prometheus_client", "proxy/admin/exposition.py"),
        ("python_socks", "proxy/net/tunnel.py"),
        ("aws_msk_iam_sasl_signer", "proxy/credentials/msk.py"),
        ("azure", "proxy/keys/providers/azure"),
        ("pkcs11", "proxy/keys/providers/pkcs11"),
        ("boto3", "proxy/keys/providers/aws.py"),
        ("botocore", "proxy/keys/providers/aws"),
        ("google", "proxy/keys/providers/gcp"),
        ("grpc", "proxy/keys/providers/gcp"),
    ],
)
def test_a_library_is_imported_in_its_place_only(library, place):
    assert {file for file in importers(library) if not file.startswith(place)} == set()


def test_the_search_finds_what_there_is():
    assert "proxy/config/models.py" in importers("pydantic")
    assert "proxy/log.py" in importers("structlog")
    assert "proxy/cli/keys.py" in importers("typer")


def test_the_policy_and_the_keys_read_no_environment():
    files = [ROOT / "proxy/policy.py", *(ROOT / "proxy/keys").rglob("*.py")]
    assert [file.name for file in files if "environ" in file.read_text()] == []
