"""`tracing`: off unless asked for, and a collector's address that can be one."""

import os
import sys

import pytest

from kveil.proxy.config import ConfigError, Tracing, load
from tests.support.processes import run

BASE = {"KVEIL_UPSTREAM__BOOTSTRAP": "a:1"}
HIDDEN = """
import sys
sys.modules[sys.argv.pop(1)] = None  # as if it weren't installed
from kveil.proxy.cli import main
main()
"""


def test_it_is_off():
    assert load(None, BASE).tracing is None


def test_a_map_with_nothing_in_it_turns_it_on():
    found = load(None, {**BASE, "KVEIL_TRACING": "{}"}).tracing
    assert found == Tracing(endpoint=None, sampled=0.01, service_name=None)


def test_everything_of_it_is_taken_from_the_environment():
    environ = {"ENDPOINT": "https://otel.example.net:4318", "SAMPLED": "1", "SERVICE_NAME": "orders-sidecar"}
    found = load(None, BASE | {f"KVEIL_TRACING__{name}": value for name, value in environ.items()}).tracing
    assert found == Tracing(endpoint=environ["ENDPOINT"], sampled=1.0, service_name="orders-sidecar")


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("endpoint", "otel.example.net:4318", "must be a URL"),
        ("endpoint", "ftp://otel.example.net", "must be a URL"),
        ("endpoint", "http://", "must be a URL"),
        ("endpoint", "http://otel.example.net/?token=1", "must be a URL"),
        ("endpoint", "http://me:s3cret@otel.example.net", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("sampled", "1.1", "at most 1"),
        ("sampled", "-0.1", "at least 0"),
        ("service_name", "two words", "must be 1 to 128"),
    ],
)
def test_what_cannot_be_used_is_told(key, value, problem):
    with pytest.raises(ConfigError) as caught:
        load(None, {**BASE, f"KVEIL_TRACING__{key.upper()}": value})
    (found,) = caught.value.problems
    assert found.path == f"tracing.{key}"
    assert problem in found.text
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("library", ["opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"])
def test_without_the_extra_it_says_what_to_install(library):
    environment = {**os.environ, **BASE, "KVEIL_TRACING": "{}"}
    found = run([sys.executable, "-c", HIDDEN, library, "check"], environment=environment)
    assert found.returncode == 2
    assert found.stderr.startswith("kveil: tracing: needs OpenTelemetry's SDK, which is not installed")
    assert "pip install 'kveil[otel]'" in found.stderr
    assert found.stderr.count("\n") == 1
