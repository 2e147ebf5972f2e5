"""deploy/kveil.1: the man page, for groff and mandoc, from the same as the reference of the commands."""

from collections.abc import Iterator, Sequence
from typing import Final

from deploy.reference.program import commands, root

_NAME: Final = "an encrypting sidecar for Apache Kafka"

_ENVIRONMENT: Final = (
    ("KVEIL_CONFIG", "The configuration file, where no --config names one."),
    (
        "KVEIL_SECTION__KEY",
        "A key of the configuration, as in KVEIL_UPSTREAM__BOOTSTRAP: over the file, under options.",
    ),
)

_FILES: Final = (
    ("/etc/kveil/kveil.yaml", "The configuration of the container image and of systemd's unit."),
    (
        "/var/lib/kveil/keys.json",
        "The key file of root. Others have ~/.local/share/kveil/keys.json. Whoever has it can open the data.",
    ),
)

_SIGNALS: Final = (
    ("SIGTERM, SIGINT", "Take no more requests, let the answers under way arrive, and end."),
    ("SIGHUP", "Read keys, certificates and users files again."),
    ("SIGUSR1", "Write the metrics to the log."),
)


def man_page() -> str:
    """The whole page."""
    program = root()
    lines = [
        '.\\" Made by `make docs`: change the program instead.',
        '.TH KVEIL 1 "" "" "Kveil"',
        ".SH NAME",
        f"kveil \\- {_text(_NAME)}",
        ".SH SYNOPSIS",
        ".B kveil",
        r"[\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGUMENTS\fR]",
        ".SH DESCRIPTION",
        _line(program.help),
        ".SH OPTIONS",
        *_entries(program.options),
        ".SH COMMANDS",
    ]
    for command in commands():
        lines += [
            f'.SS "{_text(command.usage)}"',
            _line(command.help),
            *_entries((*command.arguments, *command.options)),
        ]
    lines += [".SH EXIT STATUS", _line(program.epilog)]
    for title, rows in (("SIGNALS", _SIGNALS), ("ENVIRONMENT", _ENVIRONMENT), ("FILES", _FILES)):
        lines += [f".SH {title}", *_entries(rows)]
    return "\n".join(lines) + "\n"


def _entries(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    for names, meaning in rows:
        yield ".TP"
        yield f"\\fB{_text(names)}\\fR"
        yield _line(meaning)


def _line(text: str) -> str:
    """A line of text, which must not begin as a request of roff."""
    written = _text(text)
    return rf"\&{written}" if written.startswith((".", "'")) else written


_ESCAPES: Final = str.maketrans({"\\": r"\e", "-": r"\-", '"': r"\(dq", "`": r"\(ga", "'": r"\(aq"})


def _text(text: str) -> str:
    """Text as it is: roff would write a hyphen for a minus, and take backslashes and quotes for its own."""
    return text.translate(_ESCAPES)
