"""Which offset of the source became which of the destination, as a file, and for offsets that groups have committed."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from kveil.proxy.migrate.comparing import Comparison


def map_lines(source: str, dest: str, found: Iterable[Comparison]) -> Iterator[str]:
    """Yield the lines of the file: what it is about, each run of offsets, and each partition's ends.

    In a run, offset `source + n` became `dest + n`, for n below `count`. `end` maps the offset behind the last record.
    """
    yield json.dumps({"map": "kveil-offsets/1", "source": source, "dest": dest})
    for one in found:
        for run in one.runs:
            yield json.dumps({"partition": one.partition, "source": run.source, "dest": run.dest, "count": run.count})
        yield json.dumps({"partition": one.partition, "end": True, "source": one.source_end, "dest": one.dest_end})


def write_map(path: Path, lines: Iterable[str]) -> None:
    """Write the file anew, whole or not at all."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text("".join(f"{line}\n" for line in lines))
    beside.replace(path)


def translate(found: Comparison, offset: int) -> int | None:
    """Return where a reader goes on that would go on at a source offset; None where that isn't copied yet.

    Offsets that no record has (markers of transactions, gaps of the log cleaner) lead to the next record.
    """
    if offset > found.source_end:
        return None
    for run in found.runs:
        if offset < run.source + run.count:
            return run.dest + max(0, offset - run.source)
    return found.dest_end
