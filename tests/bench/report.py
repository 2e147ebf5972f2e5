"""What a run leaves behind: JSON for machines, and the generated parts of docs/performance.md."""

import json
from collections.abc import Sequence
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


def write_docs(folder: Path, results: Results, about: dict[str, Any], *, cases: Sequence[str] = ()) -> None:
    """Renew the picture, the samples, and the tables of the page, which must be there.

    With `cases` only these were run, and the page keeps the others as its samples have them.
    """
    page = folder / PAGE
    if cases and (folder / SAMPLES).exists():
        before = json.loads((folder / SAMPLES).read_text())
        results = results.beside(Results.from_json(before["results"]))
        later = [run for run in before["about"].get("later", ()) if not set(run["cases"]) <= set(cases)]
        about = before["about"] | {"later": [*later, about | {"cases": list(cases)}]}
    text = page.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    page.write_text(f"{text[:begin]}\n{measured(results, about)}\n{text[end:]}")
    (folder / PICTURE).write_text(picture(results))
    (folder / SAMPLES).write_text(as_json(results, about))


def measured(results: Results, about: dict[str, Any]) -> str:
    """The generated part of the page."""
    goals, everything = markdown_tables(results)
    runs = [f"{_in_words(about)}."]
    runs += [f"In a run of their own: {', '.join(run['cases'])}. {_in_words(run)}." for run in about.get("later", ())]
    told = "\n\n".join(runs)
    return f"{told}\n\n### The goals\n\n{goals}\n\n### Everything\n\n{everything}\n"


def _in_words(about: dict[str, Any]) -> str:
    load = ", ".join(f"{each:.1f}" for each in about["load_average_before"])
    cpus, gigabytes = about["cpus"], about["memory_bytes"] / 1e9
    machine = f"Python {about['python']}, {cpus} cores, {gigabytes:.0f} GB of memory, load before the run {load}"
    load_size = "a third of the usual load, " if about["quick"] else ""
    return f"{machine}; {load_size}{about['rounds']}, {about['seconds'] / 60:.0f} minutes"
