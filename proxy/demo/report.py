"""The demonstration on a terminal, coloured; anywhere else, plain."""

from collections.abc import Iterable, Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kveil.proxy.demo.clusters import Cluster
from kveil.proxy.demo.round_trip import TOPIC, Record
from kveil.proxy.demo.sidecar import PORT, Sidecar
from kveil.proxy.demo.verdict import Envelope, Verdict, read_envelope

PLAIN_WIDTH: Final = 120
CIPHERTEXT_SHOWN: Final = 16
PLAIN_STYLE: Final = "green"
SEALED_STYLE: Final = "magenta"


class Report:
    """Says what happens."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=False)
        if not self._console.is_terminal:
            self._console = Console(file=self._console.file, width=PLAIN_WIDTH, highlight=False, no_color=True)

    def line(self, text: str, style: str = "") -> None:
        """A line of its own."""
        self._console.print(Text(text, style=style), soft_wrap=True)

    def started(self, cluster: Cluster, sidecar: Sidecar) -> None:
        """What runs where."""
        self.line(f"cluster  {cluster.name}, at {cluster.bootstrap}")
        if sidecar.port != PORT:
            self.line(f"         port {PORT} is taken, so the proxy listens on {sidecar.port}", "yellow")
        self.line(f"proxy    {sidecar.bootstrap}, its own process, with a new key file, mode: {cluster.mode}")
        self.line("client   librdkafka, unchanged: bootstrap.servers names the proxy\n")

    def side_by_side(self, written: Sequence[Record], stored: Sequence[Record], got: Sequence[Record]) -> None:
        """One row for each record: written, stored, read."""
        table = Table(
            box=box.ROUNDED if self._console.is_terminal else box.ASCII,
            show_lines=True,
            title=f"topic {TOPIC}",
            title_style="bold",
            title_justify="left",
        )
        for title, ratio in (("the application wrote", 3), ("the broker holds", 4), ("the consumer got", 3)):
            table.add_column(title, ratio=ratio, overflow="fold")
        held = {record.place: record for record in stored}
        read = {record.place: record for record in got}
        for record in sorted(written, key=lambda one: one.place):
            table.add_row(
                _plain(record),
                _held(held.get(record.place)),
                _plain(read.get(record.place)),
            )
        self._console.print(table)

    def counted(self, written: Sequence[Record], stored: Sequence[Record]) -> None:
        """Many records in a line."""
        places = {record.place for record in written}
        mine = [record for record in stored if record.place in places]
        envelopes = [found for record in mine if (found := read_envelope(record.value))]
        payload = sum(len(piece) for record in written for piece in record.pieces)
        self.line(
            f"and {len(written):,} more, compressed by the client (lz4): {payload:,} bytes of keys and values, "
            f"held as {len(envelopes)} envelopes of {sum(found.size for found in envelopes):,} bytes\n"
        )

    def verdict(self, verdict: Verdict, cluster: Cluster) -> None:
        """Whether all is well."""
        where = "the bytes that a direct consumer gets" + (" and on the broker's disk" if cluster.disk_holds else "")
        self._check(
            verdict.is_exact,
            f"{verdict.same:,} of {verdict.written:,} records came back exactly as they were written",
            f"; {verdict.surplus} came back otherwise" if verdict.surplus else "",
        )
        self._check(
            not verdict.leaked,
            f"none of {verdict.pieces:,} keys, values and headers stands in {where}",
            f": {len(verdict.leaked)} do, {verdict.leaked[0]!r} for one" if verdict.leaked else "",
        )
        self._check(
            not verdict.outside,
            "whatever the broker holds is an envelope or an empty stub",
            f": {verdict.outside} records are neither" if verdict.outside else "",
        )

    def _check(self, good: bool, text: str, more: str) -> None:
        self.line(f"{'ok ' if good else 'BAD'}  {text}{more}", "bold green" if good else "bold red")

    def stays(self, cluster: Cluster, sidecar: Sidecar) -> None:
        """What to paste into another shell."""
        self.line("\nIt stays up until Ctrl-C. In another shell:\n", "bold")
        for line in paste_lines(sidecar.bootstrap, cluster):
            self.line(f"  {line}")
        self.line("\nand past the proxy, to see what the broker holds:\n", "bold")
        self.line(f"  {paste_lines(cluster.bootstrap, cluster)[2]}", SEALED_STYLE)
        if not cluster.knows_java_groups:
            self.line("\n(The mock cluster doesn't understand a Java client that joins a group: name the partition.)")
        self.line(f"\nconfiguration  {sidecar.config_path}\nlog            {sidecar.log_path}")
        self._console.file.flush()  # whoever reads a pipe waits for this


def paste_lines(bootstrap: str, cluster: Cluster) -> list[str]:
    """Commands for the topic, a line each: one that writes, then those that read."""
    begin = "--from-beginning" if cluster.knows_java_groups else "--partition 0 --offset earliest"
    python = (
        "from confluent_kafka import Consumer; "
        f"c = Consumer({{'bootstrap.servers': '{bootstrap}', 'group.id': 'me', 'auto.offset.reset': 'earliest'}}); "
        f"c.subscribe(['{TOPIC}']); m = c.poll(10); print(m.key(), m.value())"
    )
    return [
        f"kafka-console-producer --bootstrap-server {bootstrap} --topic {TOPIC}",
        f"kafka-console-consumer --bootstrap-server {bootstrap} --topic {TOPIC} {begin}",
        f"kcat -b {bootstrap} -t {TOPIC} -C -o beginning -e",
        f'python -c "{python}"',
    ]


def _plain(record: Record | None) -> Text:
    if record is None:
        return Text("nothing", style="bold red")
    lines = [f"key     {_decoded(record.key)}", f"value   {_decoded(record.value)}"]
    lines += [f"header  {name}: {_decoded(value)}" for name, value in record.headers]
    return Text("\n".join(lines), style=PLAIN_STYLE)


def _decoded(content: bytes | None) -> str:
    return "none" if content is None else content.decode(errors="replace")


def _held(record: Record | None) -> Text:
    if record is None:
        return Text("nothing", style="bold red")
    place = f"partition {record.partition}, offset {record.offset}"
    envelope = read_envelope(record.value)
    if envelope is not None:
        return Text("\n".join([place, *_described(envelope)]), style=SEALED_STYLE)
    if record.pieces:
        return Text(f"{place}\nno envelope: {record.value!r}", style="bold red")
    return Text(f"{place}\na stub: no key, no value; it keeps the offset", style=SEALED_STYLE)


def _described(envelope: Envelope) -> Iterable[str]:
    yield f"envelope  magic {envelope.magic.hex(' ')}, version {envelope.version}, mode {envelope.mode}"
    yield f"suite     {envelope.suite}"
    yield f"kid       {envelope.kid.hex()}"
    yield f"key       {envelope.key.name}, version {envelope.key.version}"
    yield f"records   {envelope.records}: {envelope.plaintext_bytes} bytes in an envelope of {envelope.size}"
    yield f"content   {envelope.ciphertext[:CIPHERTEXT_SHOWN].hex()} ..."
