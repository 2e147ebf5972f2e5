"""Providers that need an extra: they cost nothing where they aren't used, and say what to install."""

import sys

import pytest
import yaml

from tests.support.processes import run

IMPORTED = """
import sys
import kveil.proxy.cli, kveil.proxy.server, kveil.proxy.workers, kveil.proxy.keys.opening
print([name for name in ("boto3", "botocore", "grpc", "google") if name in sys.modules])
"""
HIDDEN = """
import sys
sys.modules[sys.argv.pop(1)] = None  # as if it weren't installed
from kveil.proxy.cli import main
main()
"""
SETTINGS = {
    "aws": {"region": "eu-central-1"},
    "gcp": {"key_ring": "projects/p/locations/l/keyRings/r"},
}
LIBRARIES = {"aws": "boto3", "gcp": "google.cloud"}


def test_nothing_of_a_key_service_is_imported_unless_it_is_used():
    found = run([sys.executable, "-c", IMPORTED])
    assert (found.stdout.strip(), found.stderr) == ("[]", "")


@pytest.mark.parametrize("service", LIBRARIES)
def test_a_provider_whose_extra_is_missing_says_which_to_install(service, tmp_path):
    path = tmp_path / "kveil.yaml"
    keys = {"provider": service, service: SETTINGS[service]}
    path.write_text(yaml.safe_dump({"realm": "test", "upstream": {"bootstrap": "127.0.0.1:1"}, "keys": keys}))
    found = run([sys.executable, "-c", HIDDEN, LIBRARIES[service], "run", "-c", str(path)])
    assert found.returncode == 2
    assert f"keys.provider {service} needs {LIBRARIES[service]}, which isn't installed" in found.stderr
    assert f"pip install 'kveil[{service}]'" in found.stderr
