"""The source distribution has what a wheel is built from, and nothing else."""

import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.processes import run

ROOT = Path(__file__).parents[2]


def built(source: Path, kind: str, folder: Path) -> Path:
    """Build one kind, without a compiler."""
    environment = {**os.environ, "KVEIL_BUILD_PURE": "1"}
    done = run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)], cwd=source, environment=environment
    )
    assert done.returncode == 0, done.stderr
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of this folder, unpacked."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(built(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))) as archive:
        archive.extractall(folder, filter="data")
    (found,) = folder.iterdir()
    return found


def sources(folder: Path) -> set[str]:
    parts = ("proxy", "protocol")
    return {str(path.relative_to(folder)) for part in parts for path in (folder / part).rglob("*.py")}


def test_all_sources_are_in_it(unpacked: Path):
    assert sources(unpacked) == sources(ROOT)
    assert len(sources(unpacked)) > 200


def test_nothing_else_is_in_it(unpacked: Path):
    assert {path.name for path in unpacked.iterdir()} <= {
        "CHANGELOG.md",
        "LICENSE",
        "PKG-INFO",
        "README.md",
        ".gitignore",
        "deploy",
        "protocol",
        "proxy",
        "pyproject.toml",
    }
    assert {path.name for path in (unpacked / "deploy").iterdir()} == {"build_hook.py", "kveil.1"}


def test_a_wheel_can_be_built_from_it(unpacked: Path, tmp_path: Path):
    with zipfile.ZipFile(built(unpacked, "wheel", tmp_path)) as archive:
        names = set(archive.namelist())
    assert {f"kveil/{name}" for name in sources(ROOT)} <= names
    assert [name for name in names if name.endswith("/data/share/man/man1/kveil.1")]
