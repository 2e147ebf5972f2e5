"""How the code is laid out: what may import what, and how long a file may be."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for part in ("proxy", "protocol") for path in (ROOT / part).rglob("*.py"))
LONGEST = 400
"""Lines. 250 are the aim."""

HOMES = {
    "kio": {"protocol/kafka"},
    "cryptography": {"protocol/envelope/crypto.py", "protocol/identity/crypto.py"},
    "cbor2": {"protocol/identity/cbor.py"},
    "crc32c": {"protocol/kafka/record_batch.py", "proxy/keys/providers/gcp.py"},
    "cramjam": {"protocol/kafka/compression.py"},
    "opentelemetry": {"proxy/tracing"},
    "prometheus_client": {"proxy/admin/exposition.py"},
    "uvloop": {"proxy/server.py"},
    "structlog": {"proxy/log.py"},
    "pydantic": {"proxy/config"},
    "pydantic_core": {"proxy/config"},
    "yaml": {"proxy/config"},
    "typer": {"proxy/cli"},
    "rich": {"proxy/cli", "proxy/demo"},
    "confluent_kafka": {"proxy/demo", "proxy/cli/demo.py"},
}
"""One place for each library, so that it can be replaced."""


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_there_are_sources():
    assert len(SOURCES) > 50


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
class TestEveryFile:
    def test_is_short(self, path):
        assert len(path.read_text().splitlines()) <= LONGEST

    def test_says_what_it_is(self, path):
        text = path.read_text()
        assert not text.strip() or ast.get_docstring(ast.parse(text)), "a file without a docstring"

    def test_imports_libraries_in_their_place(self, path):
        place = str(path.relative_to(ROOT))
        for name in imports_of(path):
            homes = HOMES.get(name.partition(".")[0], {""})
            assert any(place.startswith(home) for home in homes), f"{name} is for {homes}"

    def test_the_protocol_is_pure(self, path):
        if not path.is_relative_to(ROOT / "protocol"):
            return
        impure = {"asyncio", "socket", "ssl", "logging", "time", "threading", "subprocess", "structlog"}
        for name in imports_of(path):
            assert not name.startswith("kveil.proxy"), name
            assert name.partition(".")[0] not in impure, name
