"""What a run leaves behind: JSON for machines, and the generated parts of docs/performance.md."""

import json
from pathlib import Path
from typing import Any

from tests.bench.goals import verdicts
from tests.bench.picture import picture
from tests.bench.results import Results
from tests.bench.tables import markdown_tables

PAGE, PICTURE, SAMPLES = "performance.md", "performance.svg", "performance.json"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def as_json(results: Results, about: dict[str, Any]) -> str:
    """All samples and verdicts, with what is known about the run."""
    goals = [
        {
            "what": verdict.goal.row,
            "case": verdict.goal.case,
            "operation": verdict.goal.operation,
            "metric": verdict.goal.metric,
            "over": verdict.goal.over or None,
            "at_least" if verdict.goal.at_least else "at_most": verdict.goal.limit,
            "found": verdict.found,
            "met": verdict.is_met if verdict.found is not None else None,
        }
        for verdict in verdicts(results)
    ]
    return json.dumps({"about": about, "goals": goals, "results": results.as_json()}, indent=1) + "\n"


def write_docs(folder: Path, results: Results, about: dict[str, Any]) -> None:
    """Renew the picture, the samples, and the tables of the page, which must be there."""
    page = folder / PAGE
    text = page.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    page.write_text(f"{text[:begin]}\n{measured(results, about)}\n{text[end:]}")
    (folder / PICTURE).write_text(picture(results))
    (folder / SAMPLES).write_text(as_json(results, about))


def measured(results: Results, about: dict[str, Any]) -> str:
    """The generated part of the page."""
    goals, everything = markdown_tables(results)
    load = ", ".join(f"{each:.1f}" for each in about["load_average_before"])
    cpus, gigabytes = about["cpus"], about["memory_bytes"] / 1e9
    machine = f"Python {about['python']}, {cpus} cores, {gigabytes:.0f} GB of memory, load before the run {load}"
    load_size = "a third of the usual load, " if about["quick"] else ""
    how = f"{load_size}{about['rounds']}, {about['seconds'] / 60:.0f} minutes"
    return f"{machine}; {how}.\n\n### The goals\n\n{goals}\n\n### Everything\n\n{everything}\n"
