"""What lies on the brokers' disks."""

from collections.abc import Iterable, Iterator
from pathlib import Path

# They hold offsets and times only, and are mostly preallocated zeros.
_INDEXES = {".index", ".timeindex"}


def topic_segments(data_dirs: Iterable[Path], topic: str) -> Iterator[Path]:
    """The segment files of all partitions of a topic."""
    for data_dir in data_dirs:
        for folder in sorted(data_dir.glob(f"{topic}-*")):
            if folder.name.removeprefix(f"{topic}-").isdigit():
                yield from sorted(folder.glob("*.log"))


def stored_bytes(data_dirs: Iterable[Path], topic: str) -> bytes:
    """All segments of a topic, one after another."""
    return b"".join(segment.read_bytes() for segment in topic_segments(data_dirs, topic))


def files_with(data_dirs: Iterable[Path], marker: bytes) -> list[Path]:
    """The files that contain these very bytes. Compressed records are not unpacked."""
    return [path for data_dir in data_dirs for path in _files(data_dir) if _contains(path, marker)]


def _files(data_dir: Path) -> Iterator[Path]:
    for path in sorted(data_dir.rglob("*")):
        if path.is_file() and path.suffix not in _INDEXES:
            yield path


def _contains(path: Path, marker: bytes) -> bool:
    try:
        return marker in path.read_bytes()
    except FileNotFoundError:  # a running broker renames and deletes
        return False
