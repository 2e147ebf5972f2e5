"""The status page: parts that stand by themselves, so that the browser can put new ones in the place of old ones.

Everything is drawn here. The script only fetches, so the page says the same without it.
"""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from kveil.proxy.admin import figures
from kveil.proxy.admin.charts import NONE, Line, chart
from kveil.proxy.admin.metrics import sample_name
from kveil.proxy.config import Seal, Settings

_SHELL: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Kveil</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/style.css">
<noscript><meta http-equiv="refresh" content="5"></noscript>
<script src="/page.js" defer></script>
</head>
<body>
<header>
<div><h1>Kveil</h1><p class="where">{where}</p></div>
<div id="state" role="status">{state}</div>
</header>
<main>
<section aria-label="Now" id="tiles" class="tiles">{tiles}</section>
<section class="half"><h2>Throughput</h2><div id="throughput">{throughput}</div></section>
<section class="half"><h2>Added latency, 99th percentile</h2><div id="latency">{latency}</div></section>
<section><h2>Topics</h2><div id="topics" class="scroll" role="region" aria-label="Topics" tabindex="0">{topics}</div></section>
<section class="half"><h2>Clients</h2><div id="clients" class="scroll" role="region" aria-label="Clients" tabindex="0">{clients}</div></section>
<section class="half"><h2>Keys and cluster</h2><div id="keys" class="scroll" role="region" aria-label="Keys and cluster" tabindex="0">{keys}</div></section>
<section><h2>Recent refusals</h2><div id="refusals" class="scroll" role="region" aria-label="Recent refusals" tabindex="0">{refusals}</div></section>
<section><h2>Rules</h2><div class="scroll" role="region" aria-label="Rules" tabindex="0">{rules}</div></section>
</main>
<footer><p>Times are UTC. <a href="/metrics">Metrics</a> · <a href="/config">Settings</a> · <a href="/readyz">Readiness</a></p></footer>
</body>
</html>
"""  # noqa: E501
_CALL: Final = re.compile(r'kveil_key_calls_total\{service="(\w+)",operation="\w+",outcome="(\w+)"\}')


def page(settings: Settings, look: Mapping[str, Any], readiness: Mapping[str, Any]) -> str:
    """Return the whole page."""
    to = ", ".join(map(str, settings.upstream.bootstrap))
    at = ", ".join(listener.label for listener in settings.listeners)
    where = f"{escape(at)} <span aria-hidden='true'>→</span><span class='hidden'>to</span> {escape(to)}"
    return _SHELL.format(where=where, rules=_rules(settings), **parts(look, readiness))


def parts(look: Mapping[str, Any], readiness: Mapping[str, Any]) -> dict[str, str]:
    """Return what changes, by its id in the page."""
    samples: Mapping[str, float] = look["samples"]
    statuses: Sequence[Mapping[str, Any]] = look["statuses"]
    course = figures.course(look["points"])
    return {
        "state": _state(readiness),
        "tiles": _tiles(samples, course),
        "throughput": chart(
            "Throughput",
            [
                Line("sealed", "sealed", course.sealed_bytes),
                Line("opened", "opened", course.opened_bytes),
            ],
            seconds=figures.COURSE_SECONDS,
            shown=figures.in_bytes_a_second,
        ),
        "latency": chart(
            "Added latency",
            [
                Line("produce request, sealed", "sealed", course.seal_p99),
                Line("fetch answer, opened", "opened", course.open_p99),
            ],
            seconds=figures.COURSE_SECONDS,
            shown=figures.in_seconds,
        ),
        "topics": _topics(samples, statuses),
        "clients": _clients(statuses),
        "keys": _keys(samples, readiness),
        "refusals": _refusals(statuses),
    }


def _state(readiness: Mapping[str, Any]) -> str:
    if readiness["ready"]:
        return '<p class="pill good">Ready</p>'
    failing = ", ".join(name for name, check in readiness["checks"].items() if not check["ok"])
    return f'<p class="pill bad">Not ready: {escape(failing)}</p>'


def _tiles(samples: Mapping[str, float], course: figures.Course) -> str:
    refused = sum(value for name, value in samples.items() if name.startswith("kveil_refusals_total"))
    records = [figures.in_thousands(values[-1] or 0) for values in (course.sealed_records, course.opened_records)]
    tiles = [
        ("Sealing", figures.in_bytes_a_second(course.sealed_bytes[-1] or 0), f"{records[0]} records/s"),
        ("Opening", figures.in_bytes_a_second(course.opened_bytes[-1] or 0), f"{records[1]} records/s"),
        (
            "Sealed in all",
            figures.in_bytes(samples["kveil_sealed_bytes_total"]),
            f"{figures.in_thousands(samples['kveil_sealed_records_total'])} records",
        ),
        (
            "Opened in all",
            figures.in_bytes(samples["kveil_opened_bytes_total"]),
            f"{figures.in_thousands(samples['kveil_opened_records_total'])} records",
        ),
        (
            "Connections",
            figures.in_thousands(samples["kveil_connections_open"]),
            f"in flight: {figures.in_thousands(samples.get('kveil_requests_in_flight', 0))}",
        ),
        ("Refused", figures.in_thousands(refused), "partitions so far" if refused else "nothing so far"),
    ]
    return "".join(
        f'<div class="tile"><p>{name}</p><p class="number{" bad" if name == "Refused" and refused else ""}">{value}</p>'
        f"<p>{more}</p></div>"
        for name, value, more in tiles
    )


def _topics(samples: Mapping[str, float], statuses: Sequence[Mapping[str, Any]]) -> str:
    found: dict[str, dict[str, Any]] = {}
    for topic in (one for status in statuses for one in status["topics"]):
        known = found.setdefault(topic["topic"], dict(topic))
        if (topic["age_seconds"] or 0) > (known["age_seconds"] or 0) or known["mode"] is None:
            known.update(topic)

    def of(topic: str, what: str) -> float:
        return samples.get(sample_name(f"kveil_topic_{what}_total", topic=topic), 0)

    ordered = sorted(found, key=lambda name: -of(name, "sealed_bytes") - of(name, "opened_bytes"))
    rows = [
        [
            f"<b>{escape(name)}</b>",
            _how(found[name]),
            _key(found[name]),
            NONE if found[name]["age_seconds"] is None else figures.in_words(found[name]["age_seconds"]),
            *(
                f"{figures.in_bytes(of(name, f'{work}_bytes'))}"
                f"<small>{figures.in_thousands(of(name, f'{work}_records'))} records</small>"
                for work in ("sealed", "opened")
            ),
            escape(found[name]["decided_by"]),
        ]
        for name in ordered
    ]
    heads = ["Topic", "How", "Key", "Epoch key's age", "#Sealed", "#Opened", "Decided by"]
    return _table("Topics with sealed records", heads, rows, "No sealed records have passed yet.")


def _how(topic: Mapping[str, Any]) -> str:
    """Return the mode of what is sealed now; a topic that is only read has none."""
    return f'<span class="tag">sealed by {topic["mode"]}</span>' if topic["mode"] else '<span class="tag">opened</span>'


def _key(topic: Mapping[str, Any]) -> str:
    version = f"<small>version {escape(topic['version'])}</small>" if topic["version"] else ""
    return f"{escape(topic['key'])}{version}"


def _clients(statuses: Sequence[Mapping[str, Any]]) -> str:
    counts: dict[tuple[str | None, str, str | None], int] = {}
    for client in (one for status in statuses for one in status["clients"]):
        name = client["client_id"], client["address"], client["principal"]
        counts[name] = counts.get(name, 0) + client["connections"]
    rows = [
        [
            f"<b>{escape(client_id or '(no client id)')}</b>",
            escape(address),
            escape(principal or NONE),
            str(connections),
        ]
        for (client_id, address, principal), connections in sorted(counts.items(), key=lambda item: -item[1])
    ]
    heads = ["Client id", "Address", "Principal", "#Connections"]
    return _table("Clients that are connected", heads, rows, "Nobody is connected.")


def _keys(samples: Mapping[str, float], readiness: Mapping[str, Any]) -> str:
    calls: dict[str, dict[str, float]] = {}
    for name, value in samples.items():
        if call := _CALL.fullmatch(name):
            outcomes = calls.setdefault(call[1], {})
            outcomes[call[2]] = outcomes.get(call[2], 0) + value
    rows = []
    for name, check in readiness["checks"].items():
        state = '<span class="tag good">works</span>' if check["ok"] else '<span class="tag bad">fails</span>'
        reason = f"<small>{escape(check['reason'])}</small>" if not check["ok"] else ""
        outcomes = calls.get(name.removeprefix("keys: "), {})
        told = ", ".join(f"{figures.in_thousands(count)} {outcome}" for outcome, count in sorted(outcomes.items()))
        rows.append([f"<b>{escape(name)}</b>{reason}", state, told or NONE])
    held = samples.get(sample_name("kveil_cache_entries", cache="opened_keys"), 0)
    epochs = samples.get(sample_name("kveil_cache_entries", cache="epoch_keys"), 0)
    table = _table("Keys and cluster", ["What", "State", "Calls"], rows, "")
    return f"{table}<p>{figures.in_thousands(epochs)} epoch keys seal, {figures.in_thousands(held)} can open.</p>"


def _refusals(statuses: Sequence[Mapping[str, Any]]) -> str:
    refusals = sorted((one for status in statuses for one in status["refusals"]), key=lambda one: -one["at"])
    alike: dict[tuple[str | None, int, str, str], list[float]] = {}
    for one in refusals:
        alike.setdefault((one["topic"], one["partition"], one["error"], one["reason"]), []).append(one["at"])
    rows = [
        [
            _clock(times[0]),
            f"<b>{escape(topic or '(unknown)')}</b>/{partition}",
            f'<span class="tag bad">{escape(error)}</span>',
            escape(reason),
            str(len(times)),
        ]
        for (topic, partition, error, reason), times in alike.items()
    ]
    heads = ["Last", "Topic and partition", "The client was told", "Why", "#Times"]
    return _table("Recent refusals", heads, rows, "Nothing was refused.")


def _clock(at: float) -> str:
    is_today = time.gmtime(at)[:3] == time.gmtime()[:3]
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M", time.gmtime(at))


def _rules(settings: Settings) -> str:
    rows = [
        [
            f"<b>{escape(rule.match)}</b>",
            '<span class="tag warn">plain</span>'
            if rule.seal is Seal.NONE
            else f'<span class="tag">sealed, {rule.mode.value}</span>',
            NONE if rule.seal is Seal.NONE else escape(str(rule.key or settings.keys.default)),
        ]
        for rule in settings.topics
    ]
    rows += [[f"<b>{preset}</b>", '<span class="tag warn">plain</span>', NONE] for preset in settings.presets]
    if all(rule.match != "*" for rule in settings.topics):
        rows.append(["every other topic", '<span class="tag">sealed, auto</span>', escape(str(settings.keys.default))])
    return _table("Rules, the first that matches decides", ["Match", "How", "Key"], rows, "")


def _table(caption: str, heads: Iterable[str], rows: Sequence[Sequence[str]], empty: str) -> str:
    """Return a table of HTML cells. A head with # in front is of a column of numbers."""
    if not rows:
        return f'<p class="empty">{empty}</p>'
    styles = [' class="number"' if head.startswith("#") else "" for head in heads]
    top = "".join(f'<th scope="col"{style}>{head.removeprefix("#")}</th>' for style, head in zip(styles, heads))  # noqa: B905
    body = "".join(
        f"<tr>{''.join(f'<td{style}>{cell}</td>' for style, cell in zip(styles, row, strict=True))}</tr>"
        for row in rows
    )
    return (
        f'<table><caption class="hidden">{caption}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'
    )
